"""`switch.db`: merchants, numbers, trunks, sessions, calls, payments, events and audit (invariant 7).

`records` holds what rows are once they have left the database, `schema` the migrations, `read` the queries
(the only module of this package that `api` imports, with `records`), `write` the changes, `writer` the one
thread that makes them.
"""
