"""The model behind an ASGI application without framework or validation: arguments MODEL PORT."""

import pickle
import sys
from pathlib import Path

import numpy as np
import orjson
import uvicorn

model = pickle.loads(Path(sys.argv[1]).read_bytes())


async def app(scope, receive, send):
    """Answer every request."""
    if scope["type"] != "http":
        return
    if scope["method"] == "GET":
        body = b"{}"
    else:
        request = orjson.loads((await receive())["body"])
        rows = np.array(request["values"], dtype=float)
        body = orjson.dumps(model.predict(rows).tolist())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


uvicorn.run(app, port=int(sys.argv[2]), lifespan="off", access_log=False, log_level="warning")
