"""Run in a model server's environment: answer rows by the models in folders, as JSON.

Standard input has a list of `[folder, method, rows]`; the output a list of what is answered.
"""

import json
import sys
from pathlib import Path

from serving.bundle import read_bundle
from serving.errors import RequestError
from serving.interface import read_interface
from serving.predictor import load_predictor
from serving.requests import make_request_adapter

answers = []
for folder, method, rows in json.load(sys.stdin):
    bundle = read_bundle(Path(folder))
    interface = read_interface(bundle)
    predictor = load_predictor(bundle, interface, make_request_adapter(interface, 1000), 1000)
    try:
        body = json.dumps(interface.wrap(rows)).encode()
        answers.append(json.loads(predictor.answer(method, body).body))
    except RequestError as error:
        answers.append(str(error))
json.dump(answers, sys.stdout)
