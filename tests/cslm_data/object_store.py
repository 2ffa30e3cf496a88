"""An S3 server on a loopback port of this machine, as tests need one."""

from __future__ import annotations

import contextlib
import logging
import urllib.request

import pytest

BUCKET = "bucket"


@contextlib.contextmanager
def object_store():
    """The server with a bucket, found through the environment as any other; its address."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", address)
        # No retries to speak of, and no looking for the credentials of a machine in the cloud.
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        try:
            _tell(address, "reset", b"")  # servers of one process share what they store
            s3fs.S3FileSystem.clear_instance_cache()
            s3fs.S3FileSystem().mkdir(BUCKET)
            yield address
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.stop()


def deny(address):
    """From now on nobody has the permission for anything."""
    _tell(address, "reset-auth", b"0")


def allow(address):
    """From now on everybody has, as in the beginning."""
    _tell(address, "reset-auth", b"inf")


def _tell(address, what, data):
    request = urllib.request.Request(
        f"{address}/moto-api/{what}", data=data, headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(request):
        pass


def remote_files(prefix):
    """Every plan and part below `s3://bucket/prefix` with its bytes."""
    import s3fs

    store = s3fs.S3FileSystem(skip_instance_cache=True)
    root = f"{BUCKET}/{prefix}/"
    found = [path for path in store.find(root) if path.endswith(".parquet")]
    return {path.removeprefix(root): store.cat_file(path) for path in found}
