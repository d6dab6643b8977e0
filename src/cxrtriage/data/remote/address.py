"""URLs of objects: a URL comes in, the fsspec file system that reads it goes out, or a sentence why there is none.

A film, table or output is a `Path` on this machine, or a URL as `str`; `Path("s3://bucket/x")` would lose a slash. URLs
may hold passwords and signatures, so nothing but `shown` may put one into a message or table. `fetch` and `put` read
this next.

Two kinds of trouble: an object that is missing is a `SourceError`, which costs that film, as a missing file does. A
store that cannot be reached or refuses access is a `ConfigError`, which ends the run; what is done is kept.
"""

import errno
import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TypeGuard

from cxrtriage.errors import ConfigError, CxrTriageError, SourceError

Address = Path | str  # of a file; or of an object, as URL

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
WEB = ("http", "https")  # read only, and without a list of what there is
SYSTEMS: dict[tuple[str, str], Any] = {}  # of this process, by kind and options
SYSTEMS_LOCK = Lock()
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")  # stores in which a path begins with a bucket or container


def address(text: Address) -> Address:
    """Return what a command line or table gives as text: a URL as it is, anything else as a `Path`."""
    return text if is_url(text) else Path(text)


def is_url(text: object) -> TypeGuard[str]:
    """Tell whether something is the URL of an object, such as `s3://bucket/film.dcm`."""
    return isinstance(text, str) and URL.match(text) is not None


def protocol(url: str) -> str:
    """Return the `s3` of `s3://bucket/film.dcm`."""
    return url.partition("://")[0].lower()


def shown(place: Address) -> str:
    """Return how a path or URL is called in messages and tables: no password, and of a query its hash only.

    Examples
    --------
    >>> shown("https://reader:secret@hospital/a.dcm?signature=secret")
    'https://***@hospital/a.dcm?420ea3e5'
    >>> shown("s3://films/a #1?.dcm")
    's3://films/a #1?.dcm'
    """
    if not is_url(place):
        return str(place)
    scheme, _, rest = place.partition("://")
    query = ""
    if protocol(place) in WEB:  # elsewhere a ? is part of a name
        rest, mark, secret = rest.partition("?")
        query = mark and "?" + hashlib.sha256(secret.encode()).hexdigest()[:8]  # tells two of them apart
    host, slash, path = rest.partition("/")
    user, at, name = host.rpartition("@")
    if at and (":" in user or protocol(place) in WEB):
        host = f"***@{name}"
    return f"{scheme}://{host}{slash}{path}{query}"


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the object's path in it.

    Credentials and the address of the service are those that the store's own package finds: environment variables, its
    configuration files, the machine's role.

    Raises
    ------
    ConfigError
        If there is no such kind of store, or the package that reads it is not installed.
    """
    from fsspec.registry import get_filesystem_class, known_implementations

    kind = protocol(url)
    try:
        made_by = get_filesystem_class(kind)
    except ImportError as error:
        remedy = known_implementations[kind].get("err", str(error))
        if kind in ("s3", "s3a"):
            remedy = "Install it with: pip install 'cxrtriage[s3]'"
        raise ConfigError(f"{shown(url)} needs a package that is not installed. {remedy.rstrip('.')}.") from error
    except ValueError:
        raise ConfigError(
            f"{shown(url)} is in no kind of store that is known: {kind}://. Expected s3://, gs://, az://, https:// "
            "or another of fsspec's."
        ) from None
    path, options = made_by._strip_protocol(url), made_by._get_kwargs_from_urls(url)
    if not made_by.async_impl:  # may be for one thread only; fsspec keeps one for each
        return made_by(**options), path
    with SYSTEMS_LOCK:  # connecting takes a tenth of a second
        key = (kind, repr(sorted(options.items())))
        if key not in SYSTEMS:
            SYSTEMS[key] = made_by(**options)
        return SYSTEMS[key], path


@contextmanager
def trouble_told(url: str) -> Iterator[None]:
    """Turn whatever goes wrong with an object into one sentence for the user."""
    try:
        yield
    except Exception as error:  # each store's package raises its own
        raise trouble(url, error) from (None if _may_tell_secrets(url) else error)


def trouble(url: str, error: Exception) -> CxrTriageError:
    """Return the error for the user: a `SourceError` if the object is missing, else a `ConfigError`."""
    name, said = shown(url), " ".join(str(error).split())[:200].rstrip(". ")
    status = getattr(error, "status", None)  # of HTTP
    if isinstance(error, CxrTriageError):
        return error
    if isinstance(error, FileNotFoundError):
        what = "bucket" if is_bucket_missing(error) else "object"
        return SourceError(f"cannot read {name}: there is no such {what}. Check the path.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return ConfigError(
            f"cannot copy {name}: the temporary folder {tempfile.gettempdir()} is full. Free some space, or name "
            "another folder in the environment variable TMPDIR, and run the same command again; what is done is kept."
        )
    if _may_tell_secrets(url):
        said = ""
    found = f"{type(error).__name__}{f' {status}' if status else ''}{f': {said}' if said else ''}"
    if isinstance(error, PermissionError) or type(error).__name__ == "NoCredentialsError" or status in (401, 403):
        return ConfigError(
            f"the store gives no access to {name} ({found}). Check the credentials on this machine and what they "
            "allow, and run the same command again; what is done is kept."
        )
    return ConfigError(
        f"cannot reach {name} ({found}). Check the network and the store, and run the same command again; what is done "
        "is kept."
    )


def is_bucket_missing(error: Exception) -> bool:
    """Tell whether a store says that it is the bucket that is missing; not all do."""
    return type(error.__cause__).__name__ == "NoSuchBucket" or "bucket does not exist" in str(error)


def _may_tell_secrets(url: str) -> bool:
    """Tell whether what a package says of a URL may hold a password or signature; a web server may redirect to one."""
    return protocol(url) in WEB or shown(url) != url
