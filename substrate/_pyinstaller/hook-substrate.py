"""Take the schema files, the version, and the adapters that are imported by their names."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

datas = [*collect_data_files("substrate"), *copy_metadata("ostinato")]
hiddenimports = collect_submodules("substrate.models")
