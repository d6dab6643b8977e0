"""What is to be in a store is made on this machine first, and put there when it is whole.

Stores take whole objects, while sets and tables grow by appending, under a lock. So they grow in a folder that belongs
to their URL alone: a command that was interrupted, while working or while putting, finds it again and goes on.
`cli.prepare` and `scores` read this next.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from cxrtriage.data.remote.address import BUCKETS, WEB, file_system, is_bucket_missing, protocol, shown, trouble_told
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.machine import cache_home


def working_folder(url: str) -> Path:
    """Return the folder of this user in which what is to be at a URL grows; made if need be.

    Raises
    ------
    ConfigError
        If nothing can be put at the URL: no such bucket, a web server, or no access. Told before work begins.
    """
    if protocol(url) in WEB:
        raise ConfigError(f"cannot write to {shown(url)}: web servers are read only. Choose another --out.")
    with trouble_told(url):
        system, path = file_system(url)
        try:
            system.invalidate_cache()
            system.ls(path)
        except FileNotFoundError as error:  # nothing there yet
            if is_bucket_missing(error):
                bucket = path.split("/")[0]
                raise ConfigError(
                    f"cannot write to {shown(url)}: there is no bucket {bucket}. Make it or correct --out."
                ) from None
    folder = cache_home() / "cxrtriage-unfinished" / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def put(files: Mapping[Path, str]) -> None:
    """Put files to URLs, one after the other in the order given, each checked to be there in its whole size.

    Raises
    ------
    ConfigError
        If that fails; the files stay where they are.
    """
    for file, url in files.items():
        try:
            with trouble_told(url):
                system, path = file_system(url)
                if protocol(url) not in BUCKETS:
                    system.makedirs(path.rpartition("/")[0], exist_ok=True)
                system.put_file(str(file), path)
                system.invalidate_cache()
                size = system.info(path)["size"]
        except SourceError as error:  # what is missing is the bucket
            raise ConfigError(f"cannot write to {shown(url)}: {error}") from error
        if size != file.stat().st_size:
            raise ConfigError(
                f"{shown(url)} has {size} bytes after writing, expected {file.stat().st_size}. Run the same command "
                "again; what is done is kept."
            )


def finish(folder: Path) -> None:
    """Remove a `working_folder` whose content was put."""
    shutil.rmtree(folder)
