"""Ask a model server for tables, in a process that has pyarrow; prints what each is answered.

Arguments: the folder of the bundle `mixed`, and one for the prediction log.
"""

import asyncio
import io
import json
import pickle
import random
import sys
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from serving import parquet_file
from serving.app import create_app
from serving.bundle import read_bundle
from serving.media_types import ARROW, PARQUET
from serving.settings import Limits, LogSettings

BUNDLE, FOLDER = map(Path, sys.argv[1:])
ROWS = [
    {"age": 20.5, "visits": 1, "colour": "red", "member": True, "size": "small"},
    {"age": None, "visits": 2, "colour": None, "member": False, "size": "big"},
    {"age": 3.0, "visits": 3, "colour": "green", "member": True, "size": "big"},
]
GOOD = pa.Table.from_pylist(ROWS * 400)
MOST_ROWS = 2000
# A small bound, so that what goes beyond it takes no time to make.
parquet_file.MOST_BYTES = 1 << 20
TRAP = FOLDER / "trap"


class Trap:
    """Makes a file if it is unpickled."""

    def __reduce__(self):
        return Path.touch, (TRAP,)


def replace(name, array):
    table = GOOD.slice(0, len(array))
    return table.set_column(table.schema.get_field_index(name), name, array)


def arrow(table, schema=None, **options):
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, schema or table.schema, options=options) as writer:
        for batch in table if isinstance(table, list) else table.to_batches():
            writer.write_batch(batch)
    return sink.getvalue()


def write(table, **options):
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


def make_trap():
    # What pyarrow before 14.0.1 unpickled.
    names = {"ARROW:extension:name": "arrow.py_extension_type"}
    metadata = {**names, "ARROW:extension:metadata": pickle.dumps(Trap())}
    field = GOOD.schema.field("size").with_metadata(metadata)
    number = GOOD.schema.get_field_index("size")
    return GOOD.cast(GOOD.schema.set(number, field))


def make_broken_text():
    buffers = [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    return replace("size", pa.Array.from_buffers(pa.string(), 1, buffers))


SMALL_TYPES = {
    "age": pa.float32(), "visits": pa.int8(), "colour": pa.large_string(), "member": pa.bool_(),
    "size": pa.string(),
}  # fmt: skip
ARROW_ALONE = {"column twice", "no text"}  # Parquet's writer makes none of them
TABLES = {
    "good": GOOD,
    "other order": GOOD.select(GOOD.column_names[::-1]),
    "small types": GOOD.cast(pa.schema(SMALL_TYPES)),
    "whole floats": GOOD.set_column(1, "visits", GOOD["visits"].cast(pa.float64())),
    "a trap": make_trap(),
    "dictionary": GOOD.set_column(4, "size", GOOD["size"].dictionary_encode()),
    "nested": replace("size", pa.array([["a"]])),
    "missing column": GOOD.drop_columns(["size"]),
    "unknown column": GOOD.append_column("sizes", GOOD["size"]),
    "column twice": GOOD.append_column("size", GOOD["size"]),
    "text for a number": replace("visits", pa.array(["1"])),
    "missing value": replace("visits", pa.array([1, None])),
    "fraction": replace("visits", pa.array([1.0, 2.0, 2.5])),
    "too large": replace("visits", pa.array([2**63], pa.uint64())),
    "not a number": replace("age", pa.array([1.0, float("nan")])),
    "infinite": replace("age", pa.array([float("inf")])),
    "no text": make_broken_text(),
    "no rows": GOOD.slice(0, 0),
    "too many rows": pa.concat_tables([GOOD] * 2),
}  # fmt: skip
EMPTY_BATCH = pa.RecordBatch.from_pylist([], schema=GOOD.schema)
BATCHES = [*GOOD.slice(0, 1).to_batches(), *[EMPTY_BATCH] * MOST_ROWS]
LONG = replace("size", pa.array(["small" * 3000] * 1000))
NEWER = {"compression": "zstd", "data_page_version": "2.0"}
SHARED = {"column_encoding": {"size": "DELTA_BYTE_ARRAY"}}
BODIES = {
    **{f"arrow: {name}": (ARROW, arrow(table)) for name, table in TABLES.items()},
    **{
        f"parquet: {name}": (PARQUET, write(table))
        for name, table in TABLES.items()
        if name not in ARROW_ALONE
    },
    "arrow: lz4": (ARROW, arrow(GOOD, compression="lz4")),
    "arrow: cut": (ARROW, arrow(GOOD)[:-2000]),
    "arrow: nothing": (ARROW, b""),
    "arrow: other": (ARROW, b"PAR1 or anything else"),
    "arrow: empty batches": (ARROW, arrow(BATCHES, GOOD.schema)),
    "parquet: zstd": (PARQUET, write(GOOD, row_group_size=100, **NEWER)),
    "parquet: plain": (PARQUET, write(GOOD, use_dictionary=False, compression="none")),
    "parquet: cut": (PARQUET, write(GOOD)[:-20]),
    "parquet: other": (PARQUET, arrow(GOOD)),
    "parquet: long page": (PARQUET, write(LONG, use_dictionary=False, compression="zstd")),
    "parquet: long texts": (PARQUET, write(LONG, compression="zstd")),
    "parquet: shared beginnings": (PARQUET, write(LONG, use_dictionary=False, **SHARED)),
    "parquet: row groups": (PARQUET, write(GOOD, row_group_size=1)),
}  # fmt: skip


async def ask(app, path, media_type, body, method="POST", **headers):
    """The status, headers and content of an answer."""
    sent = []
    received = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return received.pop()

    async def send(message):
        sent.append(message)

    given = {"content-type": media_type, **headers}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "server": ("localhost", 1), "client": ("localhost", 2), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:])


def damage(body, draw):
    """Change some bytes of a body, or cut it."""
    changed = bytearray(body)
    for _ in range(draw.choice([1, 1, 4, 40])):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed[: draw.choice([len(changed)] * 3 + [draw.randrange(len(changed))])])


async def main():
    """Ask, and print what was answered as JSON."""
    settings = LogSettings(folder=FOLDER, private=frozenset(["colour"]))
    limits = Limits(max_rows=MOST_ROWS, max_body_bytes=8 << 20)
    app = create_app(read_bundle(BUNDLE), limits, log_settings=settings)
    service = app.state.service
    service.load()
    service.log.start()
    answers = {}
    for name, (media_type, body) in BODIES.items():
        status, headers, content = await ask(app, "/predict", media_type, body)
        answers[name] = [status, headers.get("slipway-unseen-categories"), json.loads(content)]
    rows = {"data": {"values": ROWS * 400}}
    _, headers, content = await ask(app, "/predict", "application/json", json.dumps(rows).encode())
    answers["json"] = [200, headers.get("slipway-unseen-categories"), json.loads(content)]
    proba = {}
    for accept in (ARROW, PARQUET, f"text/html, {ARROW};q=0.5", "*/*"):
        _, headers, content = await ask(
            app, "/predict_proba", *BODIES["arrow: good"], accept=accept
        )
        kind = headers["content-type"]
        if kind == "application/json":
            table = json.loads(content)
        elif kind == ARROW:
            table = pa.ipc.open_stream(content).read_all().to_pydict()
        else:
            table = parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False).to_pydict()
        proba[accept] = [kind, table]
    description = await ask(app, "/openapi.json", "", b"", method="GET")
    operation = json.loads(description[2])["paths"]["/predict"]["post"]
    draw = random.Random(1)
    statuses = []
    for _ in range(150):
        media_type, body = BODIES[draw.choice(["arrow: good", "parquet: good", "parquet: zstd"])]
        statuses.append((await ask(app, "/predict", media_type, damage(body, draw)))[0])
    identifier = {"x-request-id": "tables"}
    await ask(app, "/predict", *BODIES["parquet: good"], **identifier)
    service.close()
    lines = [line for path in FOLDER.glob("*.jsonl") for line in path.read_text().splitlines()]
    (record,) = [line for line in map(json.loads, lines) if line["id"] == "tables"]
    print(json.dumps({
        "answers": answers, "proba": proba, "statuses": statuses, "record": record["data"],
        "described": [
            [*operation["requestBody"]["content"]],
            [*operation["responses"]["200"]["content"]],
        ],
        "is_trapped": TRAP.exists(), "rows": ROWS,
    }))  # fmt: skip


asyncio.run(main())
