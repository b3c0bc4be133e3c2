"""What clients may send, as pydantic models, from which /openapi.json is made."""
