"""Times in words become cron, or nothing where cron has no word for them."""

import pytest

from newel_tools.planner.times import explain, find_time

TIMES = {
    "nightly": "0 3 * * *",
    "hourly": "0 * * * *",
    "weekly": "0 3 * * 1",
    "quarterly": "0 3 1 */3 *",
    "every minute": "* * * * *",
    "every 5 minutes": "*/5 * * * *",
    "every two hours": "0 */2 * * *",
    "every monday at 9": "0 9 * * 1",
    "on sundays": "0 3 * * 0",
    "on weekdays at 7:30": "30 7 * * 1-5",
    "daily at 2am": "0 2 * * *",
    "at 12am every day": "0 0 * * *",
    "at 12 pm daily": "0 12 * * *",
    "at noon": "0 12 * * *",
    "every night at midnight": "0 0 * * *",
    "once a week": "0 3 * * 1",
    "twice a day": "0 0,12 * * *",
    "on the 1st of each month": "0 3 1 * *",
    "every morning": "0 7 * * *",
    "per day at 6pm utc": "0 18 * * *",
    "cron 0 3 * * mon": "0 3 * * mon",
    'cron "*/15 * * * *"': "*/15 * * * *",
}


@pytest.mark.parametrize("words", TIMES)
def test_a_time_is_found_where_it_stands(words):
    found = find_time(f"a report {words} please")

    assert found is not None
    assert found.cron == TIMES[words]
    assert f"a report {words} please"[found.start : found.end].strip() == words
    assert explain(found.cron)[0].islower()


@pytest.mark.parametrize(
    "words",
    [
        *("every 7 minutes", "every 2 days", "every 60 minutes", "every other day", "soon"),
        *("at 25:00 daily", "at 13pm daily", "daily at 3:75", "hourly at 3", "cron 99 3 * * *"),
        *("every 0 minutes", "every 2 mondays", "bidaily"),
    ],
)
def test_what_cron_cannot_say_is_not_guessed(words):
    assert find_time(words) is None
