"""What every kind of object store offers."""
