"""Which top-level modules the standard library has on Linux, by Python version. Data, and one question to it.

Source: `sys.stdlib_module_names` of CPython 3.10 to 3.13; for 3.9 and 3.14 the "Removed" and "New Modules" sections of
What's New. Checked 2026-11-24 against the interpreters (tests/unit/test_audit_stdlib.py).
"""

from __future__ import annotations

import functools

_COMMON = """
    __future__ __main__ _abc _aix_support _ast _asyncio _bisect _blake2 _bz2 _codecs _codecs_cn _codecs_hk
    _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _collections _collections_abc _compat_pickle _compression
    _contextvars _csv _ctypes _curses _curses_panel _datetime _dbm _decimal _elementtree _frozen_importlib
    _frozen_importlib_external _functools _gdbm _hashlib _heapq _imp _io _json _locale _lsprof _lzma _markupbase
    _md5 _multibytecodec _multiprocessing _opcode _operator _osx_support _pickle _posixshmem _posixsubprocess
    _py_abc _pydecimal _pyio _queue _random _sha1 _sha3 _signal _sitebuiltins _socket _sqlite3 _sre _ssl _stat
    _statistics _string _strptime _struct _symtable _thread _threading_local _tkinter _tracemalloc _uuid
    _warnings _weakref _weakrefset _zoneinfo abc antigravity argparse array ast asyncio atexit base64 bdb
    binascii bisect builtins bz2 cProfile calendar cmath cmd code codecs codeop collections colorsys compileall
    concurrent configparser contextlib contextvars copy copyreg csv ctypes curses dataclasses datetime dbm
    decimal difflib dis doctest email encodings ensurepip enum errno faulthandler fcntl filecmp fileinput
    fnmatch fractions ftplib functools gc genericpath getopt getpass gettext glob graphlib grp gzip hashlib
    heapq hmac html http idlelib imaplib importlib inspect io ipaddress itertools json keyword linecache locale
    logging lzma mailbox marshal math mimetypes mmap modulefinder multiprocessing netrc ntpath nturl2path
    numbers opcode operator optparse os pathlib pdb pickle pickletools pkgutil platform plistlib poplib posix
    posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc pydoc_data pyexpat queue quopri random re
    readline reprlib resource rlcompleter runpy sched secrets select selectors shelve shlex shutil signal site
    smtplib socket socketserver sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string
    stringprep struct subprocess symtable sys sysconfig syslog tabnanny tarfile tempfile termios textwrap this
    threading time timeit tkinter token tokenize trace traceback tracemalloc tty turtle turtledemo types typing
    unicodedata unittest urllib uuid venv warnings wave weakref webbrowser wsgiref xml xmlrpc zipapp zipfile
    zipimport zlib zoneinfo
"""
_ONLY = {
    (3, 9): """
    _bootlocale _bootsubprocess _crypt _peg_parser _sha256 _sha512 aifc asynchat asyncore audioop binhex cgi
    cgitb chunk crypt distutils formatter imghdr imp lib2to3 mailcap nis nntplib ossaudiodev parser pipes smtpd
    sndhdr spwd sunau symbol telnetlib uu xdrlib
    """,
    (3, 10): """
    _bootsubprocess _crypt _sha256 _sha512 aifc asynchat asyncore audioop binhex cgi cgitb chunk crypt distutils
    imghdr imp lib2to3 mailcap nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib
    """,
    (3, 11): """
    _bootsubprocess _crypt _sha256 _sha512 _tokenize _typing aifc asynchat asyncore audioop cgi cgitb chunk
    crypt distutils imghdr imp lib2to3 mailcap nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib
    tomllib uu xdrlib
    """,
    (3, 12): """
    _crypt _pydatetime _pylong _sha2 _tokenize _typing aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap
    nis nntplib ossaudiodev pipes sndhdr spwd sunau telnetlib tomllib uu xdrlib
    """,
    (3, 13): """
    _colorize _interpchannels _interpqueues _interpreters _opcode_metadata _pydatetime _pylong _pyrepl _sha2
    _suggestions _sysconfig _tokenize _typing tomllib
    """,
    (3, 14): """
    _ast_unparse _colorize _hmac _interpchannels _interpqueues _interpreters _opcode_metadata _py_warnings
    _pydatetime _pylong _pyrepl _remote_debugging _sha2 _suggestions _sysconfig _tokenize _types _typing _zstd
    annotationlib compression tomllib
    """,
}

SUBMODULES_SINCE = {
    "asyncio.taskgroups": (3, 11),
    "asyncio.timeouts": (3, 11),
    "compression.zstd": (3, 14),
    "concurrent.interpreters": (3, 14),
    "importlib.resources.abc": (3, 11),
    "pathlib.types": (3, 14),
    "string.templatelib": (3, 14),
    "wsgiref.types": (3, 11),
}
"""Submodules that came later than 3.9, with the version that brought them."""

REMOVED_IN = {
    "aifc": (3, 13), "asynchat": (3, 12), "asyncore": (3, 12), "audioop": (3, 13), "binhex": (3, 11), "cgi": (3, 13),
    "cgitb": (3, 13), "chunk": (3, 13), "crypt": (3, 13), "distutils": (3, 12), "formatter": (3, 10), "imghdr": (3, 13),
    "imp": (3, 12), "lib2to3": (3, 13), "mailcap": (3, 13), "msilib": (3, 13), "nis": (3, 13), "nntplib": (3, 13),
    "ossaudiodev": (3, 13), "parser": (3, 10), "pipes": (3, 13), "smtpd": (3, 12), "sndhdr": (3, 13), "spwd": (3, 13),
    "sunau": (3, 13), "symbol": (3, 10), "telnetlib": (3, 13), "uu": (3, 13), "xdrlib": (3, 13),
}  # fmt: skip
"""Public modules that are gone, with the first version without them: says why an old package breaks."""

NEEDS_DISPLAY = frozenset({"_tkinter", "idlelib", "tkinter", "turtle", "turtledemo"})
"""Listed by Python, but built on Tk, which Lambda's interpreter is not known to bring."""


@functools.cache
def stdlib_modules(python: tuple[int, int]) -> frozenset[str]:
    """Top-level names of a Python version; of the newest known one for a version that is newer still."""
    return frozenset((_COMMON + _ONLY.get(python, _ONLY[max(_ONLY)])).split())
