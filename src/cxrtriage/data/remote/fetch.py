"""Objects of a store come in by their URLs; temporary files go out, which decoders can map and read in parts.

Many objects are fetched side by side, since a store takes long to begin and little to go on. `source.read_film`,
`manifest.read_manifest` and what works on groups of films read this next.
"""

import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from cxrtriage.data.remote.address import WEB, Address, file_system, is_url, protocol, shown, trouble, trouble_told
from cxrtriage.errors import ConfigError, SourceError

AT_A_TIME = 16  # objects on their way; one connection rarely fills a network
WAITS_S = (0.5, 2.0)  # before a second and a third trial; stores' packages try again by themselves too


class Copy:
    """The copy of an object that is here or on its way, for as long as `fetched` lasts."""

    def __init__(self, url: str, coming: Future[Path]) -> None:
        self.url = url
        self._coming = coming

    def file(self) -> Path:
        """Return the file, once it is here.

        Raises
        ------
        SourceError
            If there is no such object.
        ConfigError
            If the store cannot be reached or gives no access.
        """
        return self._coming.result()


@contextmanager
def fetched(places: Iterable[Address]) -> Iterator[dict[Address, Path | Copy]]:
    """Fetch objects side by side for as long as the block runs.

    Parameters
    ----------
    places : paths, which stay what they are, and URLs

    Yields
    ------
    dict
        For each place its path, or the `Copy` that is on its way; see `at_hand`.
    """
    places = list(places)
    urls = [place for place in dict.fromkeys(places) if is_url(place)]
    here: dict[Address, Path | Copy] = {place: Path(place) for place in places if not is_url(place)}
    if not urls:
        yield here
        return
    with TemporaryDirectory(prefix="cxrtriage-") as folder:
        threads = ThreadPoolExecutor(min(AT_A_TIME, len(urls)))
        try:
            for number, url in enumerate(urls):
                here[url] = Copy(url, threads.submit(_fetch, url, Path(folder, f"{number}{_suffix(url)}")))
            yield here
        finally:
            threads.shutdown(cancel_futures=True)


@contextmanager
def at_hand(place: Address | Copy) -> Iterator[Path]:
    """Yield the file of a path, URL or `Copy`; a `SourceError` in the block then names the URL, not the copy."""
    if isinstance(place, Copy):
        file = place.file()
        try:
            yield file
        except SourceError as error:
            raise SourceError(str(error).replace(str(file), shown(place.url))) from error
    elif is_url(place):
        with fetched([place]) as here, at_hand(here[place]) as file:
            yield file
    else:
        yield Path(place)


def objects_below(url: str) -> list[str]:
    """Return the URLs of the objects below one that stands for a folder, sorted; or itself, if it is an object.

    Raises
    ------
    SourceError
        If there is no such bucket.
    ConfigError
        If the store cannot be reached or gives no access, or is a web server, which has no list of its files.
    """
    if protocol(url) in WEB:
        raise ConfigError(f"web servers do not list their files, so {shown(url)} cannot be searched. Name each film.")
    with trouble_told(url):
        system, root = file_system(url)
        system.invalidate_cache()
        found = sorted(system.find(root))
    below = [path[len(root) :].strip("/") for path in found if not path.endswith("/")]
    return [f"{url.rstrip('/')}/{name}" if name else url for name in below]


def heads(urls: list[str], size: int) -> list[bytes]:
    """Return the first `size` bytes of objects of one store, or none of those that cannot be read."""
    if not urls:
        return []
    with trouble_told(urls[0]):
        system, _ = file_system(urls[0])
        paths = [file_system(url)[1] for url in urls]
        answers = system.cat_ranges(paths, [0] * len(paths), [size] * len(paths), on_error="return")
    return [answer if isinstance(answer, bytes) else b"" for answer in answers]


def stamp(url: str) -> list[int | str] | None:
    """Return size and version of an object, None if it is missing: do they differ, it is another one."""
    try:
        with trouble_told(url):
            system, path = file_system(url)
            system.invalidate_cache()
            facts = system.info(path)
    except SourceError:
        return None
    versions = (str(facts[name]) for name in ("ETag", "etag", "content_md5", "mtime", "LastModified") if name in facts)
    return [int(facts.get("size") or 0), next(versions, "")]


def changed_ns(urls: Iterable[str]) -> Iterator[int | None]:
    """Yield when each object was last changed, in ns since 1970; None if it is missing or its store does not tell."""

    def asked(url: str) -> int | None:
        try:
            with trouble_told(url):
                system, path = file_system(url)
                with suppress(NotImplementedError):
                    return int(system.modified(path).timestamp() * 1e9)
        except SourceError:
            pass
        return None

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        yield from threads.map(asked, urls)


def _fetch(url: str, file: Path) -> Path:
    for wait_s in (*WAITS_S, None):
        try:
            system, path = file_system(url)
            system.get_file(path, str(file))
        except Exception as error:
            told = trouble(url, error)
            if wait_s is None or isinstance(told, SourceError):
                raise told from None
            time.sleep(wait_s)
        else:
            break
    return file


def _suffix(url: str) -> str:
    """Return what an object's name ends in, which tells a packed table."""
    match = re.search(r"\.\w{1,8}$", url.split("?")[0] if protocol(url) in WEB else url)
    return match[0] if match else ""
