"""Store of content-addressed artifacts, published atomically and verified on every read."""

from autosparse.store.artifact import Artifact, Draft
from autosparse.store.files import FREE_SPACE, canonical, digest, file_digest, is_full, key_of
from autosparse.store.fingerprints import contents, name_in
from autosparse.store.gc import collect, collect_remote, in_use
from autosparse.store.index import Index, Record, open_index
from autosparse.store.local import Store
from autosparse.store.remote import Remote
from autosparse.store.safetensors import ShardedRows, dump_tensors, load_tensors

__all__ = [
    "FREE_SPACE", "Artifact", "Draft", "Index", "Record", "Remote", "ShardedRows", "Store", "canonical", "collect",
    "collect_remote", "contents", "digest", "dump_tensors", "file_digest", "in_use", "is_full", "key_of",
    "load_tensors", "name_in", "open_index",
]  # fmt: skip
