"""No code of a user: the model of the tests needs none."""
