"""Which files nearly every start of a Python function reads, by name, in about that order: loader, interpreter, modules.

Such files lie together in an image's data, so that a start of which nobody has a trace fetches few chunks. A wrong guess
costs little: the file is read from where it lies. No I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LIBRARIES = re.compile(
    rb"(?:ld-linux|lib(?:c|m|dl|pthread|rt|util|crypt|crypto|ssl|ffi|gcc_s|stdc\+\+|z|lzma|bz2|uuid|python3))[-.][^/]*so[.0-9]*"
)
_LOADER = b"ld-linux"
_NEEDED_BY = {
    b"libffi": b"_ctypes", b"libz": b"zlib", b"libbz2": b"_bz2", b"liblzma": b"_lzma", b"libstdc++": b"runtime_client",
    b"libgcc_s": b"runtime_client", b"libcrypto": b"_ssl", b"libssl": b"_ssl",
}  # fmt: skip
"""Libraries that the interpreter doesn't need itself, and the module with which they come."""
_PROGRAM = re.compile(rb"python3(?:\.[0-9]+)?")
_MODULES = """
zipimport codecs encodings/aliases encodings/__init__ encodings/utf_8 encodings/latin_1 abc io stat genericpath posixpath os
_sitebuiltins _collections_abc _bootlocale site encodings/utf_8_sig types sre_constants sre_parse enum sre_compile keyword
operator _heapq heapq re/_constants reprlib importlib/_bootstrap re/_parser collections/__init__ importlib/_bootstrap_external
re/_casefix functools re/_compiler copyreg re re/__init__ fnmatch ntpath pathlib pathlib/__init__ pathlib/_local pathlib/_abc
zlib _compression _json _bz2 json/scanner bz2 json/decoder _lzma json/encoder _struct math lzma json/__init__ struct
collections/abc shutil _ctypes warnings ctypes/_endian ctypes/__init__ _weakrefset _socket importlib/__init__ select selectors
tempfile threading array _posixsubprocess socket grp subprocess signal _typing contextlib typing importlib/resources/abc fcntl
importlib/resources/_adapters resource importlib/resources/_common linecache importlib/resources/_legacy platform
importlib/resources/__init__ _colorize weakref mmap importlib/_abc importlib/util token tokenize zipfile zipfile/__init__
traceback textwrap importlib/resources/_itertools string importlib/resources/readers logging/__init__ importlib/readers
awslambdaric/__init__ awslambdaric/__main__ awslambdaric/bootstrap awslambdaric/lambda_config awslambdaric/lambda_context
awslambdaric/lambda_literals awslambdaric/lambda_multi_concurrent_utils awslambdaric/lambda_runtime_client
awslambdaric/lambda_runtime_exception awslambdaric/lambda_runtime_hooks_runner awslambdaric/lambda_runtime_log_utils
awslambdaric/lambda_runtime_marshaller snapshot_restore_py runtime_client bootstrap numbers _decimal decimal __future__
ipaddress simplejson/errors simplejson/raw_json simplejson/compat simplejson/_speedups simplejson/scanner simplejson/decoder
simplejson/encoder simplejson/__init__ _sha512 binascii _bisect bisect _random random urllib/__init__ urllib/parse queue _queue
http/__init__ email/__init__ email/errors email/quoprimime base64 email/base64mime _sha2 quopri email/encoders email/charset
email/header _datetime datetime email/_parseaddr locale email/utils calendar email/_policybase email/feedparser email/parser
email/_encoded_words email/iterators email/message _ssl ssl http/client concurrent/__init__
concurrent/futures/_base concurrent/futures/__init__ concurrent/futures/thread
"""
"""As CPython 3.9 to 3.13 import them (-X importtime) for AWS's client, http.client with ssl, and what lading's zygotes need."""
_RANKS = {name.encode("ascii"): number for number, name in enumerate(_MODULES.split(), 2)}
_MODULE = re.compile(
    rb"(?:.*/)?(?:python3\.[0-9]+|site-packages|dist-packages|lib-dynload|var/runtime|var/task)/(.+?)"
    rb"(?:\.cpython-[^/.]*|\.abi3)?\.(?:so|pyc)"
)
"""What is imported: sources aren't read where there is bytecode."""
_CLIENT = re.compile(rb"(?:.*/)?awslambdaric/(?:__pycache__/)?bootstrap\.cpython-3([0-9]+)\.pyc")
_OF_VERSION = re.compile(rb"python3\.([0-9]+)(?![0-9])|cpython-3([0-9]+)(?![0-9])")
_TESTS = re.compile(rb"(?:.*/)?tests?/.*")


def is_code(path: bytes) -> bool:
    """Whether an import may read it: bytecode and libraries, but those of tests. Sources and data lie apart from them."""
    return path.endswith((b".pyc", b".so")) and not _TESTS.fullmatch(path)


def rank(path: bytes) -> int:
    """Its place among what starts read; -1 for what they don't."""
    if path.endswith((b".pyc", b".so")) and (found := _MODULE.fullmatch(path)):
        module = _RANKS.get(found[1].replace(b"__pycache__/", b""), -1)
        if module >= 0:
            return module
    name = path.rpartition(b"/")[2]
    if _LIBRARIES.fullmatch(name):
        return 0
    return 1 if _PROGRAM.fullmatch(name) else -1


@dataclass(frozen=True, slots=True)
class Turn:
    """When in a start a file is read, and as what: of several copies of one thing, one is."""

    number: int
    role: bytes


def turn(path: bytes, version: bytes = b"") -> Turn | None:
    """None for what starts don't read. version: of the interpreter, as `client_version` says: no other's files are read."""
    number = rank(path)
    of = _OF_VERSION.search(path)
    if number < 0 or (version and of and version not in of.groups()):
        return None
    name = path.rpartition(b"/")[2]
    if name.startswith(_LOADER):
        return Turn(0, path)  # they are small, and it takes links to know which it is
    if number == 0:
        stem = re.split(rb"[-.]", name, maxsplit=1)[0]
        return Turn(_RANKS[_NEEDED_BY[stem]] if stem in _NEEDED_BY else 1, stem)
    return Turn(0, b"python") if number == 1 else Turn(number, b"%d" % number)


def client_version(path: bytes) -> bytes:
    """The minor version of the Python that AWS's client was compiled for, where this is its bytecode; else nothing."""
    found = _CLIENT.fullmatch(path)
    return found[1] if found else b""
