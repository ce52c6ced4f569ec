"""Run in a model server's environment: answer rows by the models in folders, as JSON.

Standard input has a list of `[folder, method, rows]`; the output a list of objects with what is
answered, `answer`, and the rows of categories never seen by column, `unseen`.
"""

import json
import sys
from pathlib import Path

from serving.bundle import read_bundle
from serving.errors import RequestError
from serving.interface import read_interface
from serving.predictor import load_predictor
from serving.requests import make_request_adapter
from serving.settings import Limits

ROWS = Limits().max_rows

answers = []
for folder, method, rows in json.load(sys.stdin):
    bundle = read_bundle(Path(folder))
    interface = read_interface(bundle)
    predictor = load_predictor(bundle, interface, make_request_adapter(interface, ROWS), ROWS)
    try:
        body = json.dumps(interface.wrap(rows)).encode()
        read = predictor.rows(body)
        answer = predictor.make_answer(read, predictor.predict(method, read))
        answers.append({"answer": json.loads(answer.body), "unseen": answer.unseen_categories})
    except RequestError as error:
        answers.append({"answer": str(error), "unseen": {}})
json.dump(answers, sys.stdout)
