"""Nothing secret is written down or printed, wherever it comes from."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from processes import job

from pipeline.data.urls import shard_names
from pipeline.redaction import HIDDEN, Guarded, redacted

SECRET = "fAke+Secret/0123456789abcdefghij"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://AKIA0:{SECRET}@bucket/run",
        f"cannot read https://user:{SECRET}@host/x.tar: gone",
        f"https://{SECRET.replace('/', '')}@github.example/x",
        f"https://host/x.tar?X-Amz-Date=1&X-Amz-Signature={SECRET}&X-Amz-Expires=9",
        f"https://host/x.tar?sv=1&sig={SECRET}",
        f"jobs.evaluate +model.kwargs.token={SECRET} out=a",
        f"dataset.storage.secret_access_key='{SECRET}'",
        f"AWSAccessKeyId={SECRET}&Expires=1",
    ],
)
def test_credentials_in_text_are_hidden(text):
    said = redacted(text)
    assert SECRET not in said and SECRET.replace("/", "") not in said and HIDDEN in said
    assert redacted(said) == said
    assert said[:2] == text[:2]


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/run",
        "http://127.0.0.1:8265/a@b",
        "hf://datasets/timm/imagenet-1k-wds@main/x.tar",
        "masking=token_drop engine.tokens_per_batch=4096 dataset.keys=keys.txt",
        "RAY_AUTH_TOKEN_PATH and RAY_AUTH_MODE=token",
        "gs://bucket/x-{000..127}.tar",
        "sftp://user@host/x",
    ],
)
def test_what_only_looks_like_one_stays(text):
    assert redacted(text) == text


def test_settings_by_their_names_and_the_environments_values(monkeypatch):
    monkeypatch.setenv("MY_STORE_KEY", "plain-enough")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/root/.ray/auth_token")
    monkeypatch.setenv("SOME_PASSWORD", "short")
    given = {
        "api_key": "abc",
        "nested": [{"secret_token": "abc", "token": 7, "name": f"x {SECRET} y"}, "plain-enough"],
        "path": "/root/.ray/auth_token is short",
    }
    assert redacted(given) == {
        "api_key": HIDDEN,
        "nested": [{"secret_token": HIDDEN, "token": 7, "name": f"x {HIDDEN} y"}, "plain-enough"],
        "path": "/root/.ray/auth_token is short",
    }


def test_a_guarded_stream_is_a_stream(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    below = io.StringIO()
    stream = Guarded(below)
    print("a", SECRET, file=stream, flush=True)
    stream.writelines([SECRET, "\n"])
    assert below.getvalue() == f"a {HIDDEN}\n{HIDDEN}\n" and not stream.isatty()


def test_a_shard_is_called_the_same_whoever_has_signed_its_url():
    urls = [f"https://host/x.tar?X-Amz-Date={i}&X-Amz-Signature={SECRET}" for i in range(2)]
    assert shard_names(urls[:1]) == shard_names(urls[1:]) == ["x.tar"]
    assert shard_names(["https://host/get?id=1", "https://host/get?id=2"]) == [
        "get?id=1",
        "get?id=2",
    ]


def test_a_run_directory_and_wandb_hold_no_secret(tmp_path, demo_shards):
    """A key in the environment, one in a URL that fails, one among the model's settings."""
    shards = [demo_shards, f"memory://user:{SECRET}@host/x.tar"]
    out, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    common = ["tracking=offline", f"out={out}"]
    given = ["dataset.name=demo", "dataset.limit=1", "players=patch2", "methods=[random_0]"]
    given += [f"dataset.shards={demo_shards}", f"tracking.tags=[{SECRET}]", "cluster.actors=1"]
    given += [f"tracking.group=https://user:{SECRET}@host/paper"]
    env = {"WANDB_API_KEY": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET[::-1], "HOME": str(home)}
    said = run(["evaluate", *given, *common], env)
    said += run(["aggregate", "resamples=10", *common], env)
    wrong = [f"dataset.shards={shards[1]}", "dataset.name=demo", *common]
    said += run(["evaluate", *wrong], env, 2)
    looked_at = [path for path in out.rglob("*") if path.is_file()]
    kinds = {path.name for path in looked_at} | {path.suffix for path in looked_at}
    assert {"config.yaml", "command.txt", "index.html", ".parquet", ".wandb"} <= kinds
    for secret in (SECRET, SECRET[::-1]):
        assert secret not in said
        for path in looked_at:
            assert secret.encode() not in contents(path), path


def contents(path: Path) -> bytes:
    """A file's bytes; of a Parquet file, its metadata and columns too, which are compressed."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        content += repr(table.schema.metadata).encode() + repr(table.to_pylist()).encode()
    return content


def run(command: list[str], env: dict[str, str], code: int = 0) -> str:
    done = job(*command, env=env, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
