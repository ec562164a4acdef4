"""The code table and its code books; a semantic ID is checked as the string `12-7-33`."""

from __future__ import annotations

from tesserec.validation.suites.start import Suite, between, expectations, not_null, start


def codes(
    *, items: int, digits: int, codebook_size: int, max_collision_share: float = 0.5
) -> Suite:
    """Columns: item_id, sid_key, digits, lowest and highest code, others (items with its SID)."""
    gxe = expectations()

    columns = ["item_id", "sid_key", "digits", "lowest", "highest", "others"]
    return Suite(
        [
            *start(columns, items, max_rows=items),
            *not_null("item_id", "sid_key"),
            gxe.ExpectColumnValuesToBeUnique(column="item_id", severity="critical"),
            gxe.ExpectColumnValuesToMatchRegex(
                column="sid_key",
                regex=rf"^\d+(?:-\d+){{{digits - 1}}}$",
                severity="critical",
            ),
            between("digits", digits, digits),
            between("lowest", 0),
            between("highest", None, codebook_size - 1),
            # Two items with one SID always score alike: some may, most must not.
            between("others", None, 0, mostly=1 - max_collision_share),
            gxe.ExpectColumnValuesToBeUnique(column="sid_key", mostly=0.95, severity="warning"),
        ],
        ("item_id",),
    )


def codebooks(*, digits: int, codebook_size: int, items: int) -> Suite:
    """One row a digit: digit, used (codes), utilisation (of what is possible), entropy."""
    gxe = expectations()

    return Suite(
        [
            *start(["digit", "used", "utilisation", "entropy"], digits, max_rows=digits),
            gxe.ExpectColumnValuesToBeUnique(column="digit", severity="critical"),
            *not_null("used", "utilisation", "entropy"),
            between("used", 1, min(codebook_size, items)),
            # A collapsed digit carries nothing; one that uses little is worth a look.
            between("utilisation", 0.05, mostly=0.5),
            between("entropy", 0.05, mostly=0.5),
            between("utilisation", 0.5, severity="warning", mostly=0.9),
            between("entropy", 0.5, severity="warning", mostly=0.9),
        ],
        ("digit",),
    )


def quality(*, measured: bool = True) -> Suite:
    """One row of quality.json: error_training, error_held_out, neighbour_gain (share minus chance).

    Errors are shares of the variance: 1 is as bad as one vector for all items. `measured` is false
    of a given code table, which has none: nobody knows what its codes stand for.
    """
    return Suite(
        [
            *start(["error_training", "error_held_out", "neighbour_gain"], 1, max_rows=1),
            *(not_null("error_training") if measured else []),
            between("error_training", 0, 1),
            between("error_held_out", 0, 1, severity="warning"),
            between("neighbour_gain", 0, severity="warning"),
        ]
    )
