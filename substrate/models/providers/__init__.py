"""One adapter for each provider, over its own SDK, loaded when it is used.

What it keeps true: an answer without its end is an error; each refusal becomes one of the kinds of
`ModelError`; a key is in nothing that a server says. A provider is a folder: `client` connects,
`request` writes what is sent, `reply` reads what comes back. Only `Model` and the registry look in
here.
"""
