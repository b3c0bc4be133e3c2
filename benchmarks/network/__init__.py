"""What a network of processes costs against the same model in one process."""
