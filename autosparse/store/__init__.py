"""The store: content-addressed artifacts, published atomically and verified on every read."""

from autosparse.store.artifacts import Store
from autosparse.store.canonical import canonical, digest, file_digest, key_of
from autosparse.store.contents import contents, name_in
from autosparse.store.files import Artifact, Draft
from autosparse.store.index import Index, Record, open_index
from autosparse.store.remote import Remote
from autosparse.store.rows import Rows
from autosparse.store.tensors import dump_tensors, load_tensors
from autosparse.store.uses import InUse, Unused, collect, collect_remote

__all__ = [
    "Artifact", "Draft", "InUse", "Index", "Record", "Remote", "Rows", "Store", "Unused", "canonical", "collect",
    "collect_remote", "contents", "digest", "dump_tensors", "file_digest", "key_of", "load_tensors", "name_in",
    "open_index",
]  # fmt: skip
