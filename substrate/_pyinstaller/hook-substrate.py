"""Take the schema files, the versions that are asked for, and what is imported by its name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

# The prices' library looks its own version up when it is imported.
datas = [
    *collect_data_files("substrate"),
    *copy_metadata("ostinato"),
    *copy_metadata("genai-prices"),
]
hiddenimports = collect_submodules("substrate.models")
