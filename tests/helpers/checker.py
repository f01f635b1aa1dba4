"""The run-time type checker of the tests: beartype, to which an int is a float."""

from beartype import BeartypeConf, beartype

TYPES = BeartypeConf(
    is_pep484_tower=True,
    # Signatures, not variables; and the kind of error that jaxtyping has, too.
    claw_is_pep526=False,
    violation_type=TypeError,
)
check = beartype(conf=TYPES)
