"""`myelin bench chain`: transfers per second over the whole path, against other nodes; and how the time is spent."""
