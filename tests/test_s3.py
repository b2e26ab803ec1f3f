"""Shards in an object store: a server on loopback that speaks S3."""

import logging

import pytest
from conftest import write_tar

from pipeline import UsageError
from pipeline.data.index import load
from pipeline.data.shards import Shards

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3 = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    host, port = s3.get_host_and_port()
    yield f"http://{host}:{port}"
    s3.stop()


@pytest.fixture
def store(endpoint, tmp_path, monkeypatch):
    import s3fs

    named = {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "ENDPOINT_URL_S3": endpoint}
    for name, value in named.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("PIXEL_QUORUM_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    if not fs.exists("bucket"):
        fs.mkdir("bucket")
    return fs


def test_shards_of_a_bucket_are_indexed_and_read(store, tmp_path):
    members = {f"{k}.{e}": c for k in "abc" for e, c in (("jpg", b"x" * 5000), ("cls", b"3"))}
    content = write_tar(tmp_path / "0.tar", members).read_bytes()
    for folder in "pq":
        store.pipe_file(f"bucket/{folder}/0.tar", content)
    data = Shards(name="x", shards=["s3://bucket/p/*.tar", "s3://bucket/q/0.tar"])
    refs = list(data.index())
    assert [(ref.shard, ref.key) for ref in refs] == [
        (f"{f}/0.tar", k) for f in "pq" for k in "abc"
    ]
    assert data.read(refs[4]).encoded == b"x" * 5000 and data.read(refs[4]).label == 3
    before = load("s3://bucket/p/0.tar", "0.tar").stamp
    store.pipe_file("bucket/p/0.tar", content.replace(b"x" * 5000, b"y" * 5000))  # of equal size
    assert load("s3://bucket/p/0.tar", "0.tar").stamp != before


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket/none.tar", "does not exist"),
        ("s3://nobucket/x.tar", "bucket does not exist"),
        ("s3://nobucket/*.tar", "nothing matches"),
    ],
)
def test_what_is_not_there_is_one_line(store, url, said):
    with pytest.raises(UsageError, match=said) as caught:
        list(Shards(name="x", shards=url).index())
    assert "\n" not in str(caught.value)
