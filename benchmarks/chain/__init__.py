"""`myelin bench chain`: transfers per second over the whole path, against other nodes; and where the time goes."""
