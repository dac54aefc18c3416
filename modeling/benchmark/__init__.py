"""All networks on one data set: trained alike, tested on the same ground, held beside what their papers claim.

`plan` says what is compared, `speed` times it, `ledger` keeps what is finished, `run` trains and tests, `compare` puts
intervals on differences, `results` and `report` turn them into tables.
"""
