"""The program that makes Evidently's report, in an environment of its own."""
