"""Cron expressions as robfig/cron 1.2 reads them, which Kubeflow Pipelines uses.

The expected times were printed by that library for 2026-11-24T10:15:30Z, a Tuesday.
"""

import datetime

import pytest

from optduel.components.core import ExperimentError
from optduel.pipeline.kfp.cron import parse_cron

NOW = datetime.datetime(2026, 11, 24, 10, 15, 30, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 0 6 * * 1", "2026-11-30T06:00:00 2026-12-07T06:00:00 2026-12-14T06:00:00"),
        ("30 15 10 * * *", "2026-11-25T10:15:30 2026-11-26T10:15:30 2026-11-27T10:15:30"),
        ("31 15 10 24 11 ?", "2026-11-24T10:15:31 2027-11-24T10:15:31 2028-11-24T10:15:31"),
        ("0 0 9 ? * MON-FRI", "2026-11-25T09:00:00 2026-11-26T09:00:00 2026-11-27T09:00:00"),
        ("0 */20 8-10 * * *", "2026-11-24T10:20:00 2026-11-24T10:40:00 2026-11-25T08:00:00"),
        ("0 5/25 * * * *", "2026-11-24T10:30:00 2026-11-24T10:55:00 2026-11-24T11:05:00"),
        ("0 0 0 1,15 * *", "2026-12-01T00:00:00 2026-12-15T00:00:00 2027-01-01T00:00:00"),
        ("0 0 12 13 * FRI", "2026-11-27T12:00:00 2026-12-04T12:00:00 2026-12-11T12:00:00"),
        ("0 0 0 29 Feb *", "2028-02-29T00:00:00 2032-02-29T00:00:00 2036-02-29T00:00:00"),
        ("0 0 0 1 1-6/2 *", "2027-01-01T00:00:00 2027-03-01T00:00:00 2027-05-01T00:00:00"),
        ("0 0 0 */10 * Sun", "2027-01-31T00:00:00 2027-02-21T00:00:00 2027-03-21T00:00:00"),
        ("@hourly", "2026-11-24T11:00:00 2026-11-24T12:00:00 2026-11-24T13:00:00"),
        ("@daily", "2026-11-25T00:00:00 2026-11-26T00:00:00 2026-11-27T00:00:00"),
        ("@weekly", "2026-11-29T00:00:00 2026-12-06T00:00:00 2026-12-13T00:00:00"),
        ("@monthly", "2026-12-01T00:00:00 2027-01-01T00:00:00 2027-02-01T00:00:00"),
        ("@yearly", "2027-01-01T00:00:00 2028-01-01T00:00:00 2029-01-01T00:00:00"),
    ],
)
def test_next_times_are_those_of_the_library(text: str, times: str) -> None:
    found = parse_cron(text).next_times(NOW, 3)
    assert " ".join(time.strftime("%Y-%m-%dT%H:%M:%S") for time in found) == times


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0 6 * * 1",
            "has five fields, but Kubeflow Pipelines wants six, seconds first; write '0 0 6 * * 1'",
        ),
        ("", "has 0 fields, must have six: second, minute, hour, day of month, month, day of week"),
        ("0 0 0 6 * * 1", "has 7 fields, must have six"),
        ("60 * * * * *", "second = '60': must be *, numbers from 0 to 59, ranges"),
        ("0 0 24 * * *", "hour = '24': must be *, numbers from 0 to 23"),
        ("0 0 0 0 * *", "day of month = '0': must be *, numbers from 1 to 31"),
        ("0 0 0 1 13 *", "month = '13': must be *, numbers from 1 to 12 or names such as jan"),
        ("0 0 0 * * 7", "day of week = '7': must be *, numbers from 0 to 6 or names such as mon"),
        ("0 0 5-3 * * *", "hour = '5-3'"),
        ("0 */0 * * * *", "minute = '*/0'"),
        ("0 1,,2 * * * *", "minute = ''"),
        ("0 0 six * * *", "hour = 'six'"),
        ("0 0 ٣ * * *", "hour = '٣'"),
        ("0 0 0 31 2 *", "no day of the next 5 years matches"),
        ("@fortnightly", "must be six fields or one of @yearly"),
        ("@every 1h", "must be six fields or one of @yearly"),
    ],
)
def test_a_wrong_expression_is_told_with_its_field(text: str, message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        parse_cron(text)
    assert str(raised.value).startswith(f"--cron = {text!r}: ")
    assert message in str(raised.value)
