"""Check params.yaml against itself and the columns of the data; write nothing."""

from model.fetch import check
from model.params import run

if __name__ == "__main__":
    run(check)
