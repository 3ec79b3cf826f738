"""Holding PostgreSQL's planner to a plan while one statement is planned, whatever it believes to know of the rows.

Statistics say what a table was like when somebody last looked. A queue that has filled since then looks empty, and the
planner would sort the whole of it for every claim, where an index has the order already; or it reads the whole table to
join a few of its rows, where their ids are at hand.
"""

# The settings are those of the transaction. With sorts off their costs are beyond measure, which would call for `jit`.
HELD_TO_INDEXES = """
SELECT set_config('heimdex.' || name, current_setting(name), true), set_config(name, 'off', true)
FROM unnest(ARRAY['enable_sort', 'enable_hashjoin', 'enable_mergejoin', 'jit']) AS name;
"""
"""Goes before a statement that is to use indexes and their order, in the same text."""

AS_BEFORE = """(
    SELECT count(set_config(name, current_setting('heimdex.' || name), true))
    FROM unnest(ARRAY['enable_sort', 'enable_hashjoin', 'enable_mergejoin', 'jit']) AS name
) > 0"""
"""A condition of the statement's last WHERE: it is planned by then, and what comes after it is planned as ever."""
