"""The master secret is exchanged: sessions go on meanwhile, and second factors stay good."""

import re

import pytest

from crm_api.domains.sign_in.resealing import renew_all
from tests.security.test_keys import logs
from tests.security.test_rotation import NEW, OLD, start
from tests.sign_in.browsing import Browser, handle, invited
from tests.sign_in.test_second_factor import code, half, secret_of
from tests.support.org import Org

__all__ = ["start"]


@pytest.mark.broad  # security/test_rotation has it, of keys
def test_the_master_secret_is_exchanged(start, sql):
    with start(secret=OLD) as first:
        org = Org.create(first)
        emails, codes = {}, {}
        browser = Browser(first)
        for who in ("rep", "colleague"):
            browser.cookies.clear()
            emails[who] = invited(org, who)
            browser.sign_in(handle(org), emails[who])
            page = browser.get("/account/second-factor")
            done = browser.submit(page, code=code(secret_of(page)))
            codes[who] = re.findall(r"<li><code>([0-9a-f-]+)</code>", done.text)
        cookies = dict(browser.cookies)
        (broken,) = [item["id"] for item in org.colleague.all("/v1/second_factors")]
    with start(secret=NEW, secret_previous=OLD) as second:
        org.server = second
        there = Browser(second)
        there.cookies.update(cookies)
        assert there.signed_in
        used = half(org, emails["rep"])
        assert used.submit(used.get("/sign-in/code"), code=codes["rep"][0]).status_code == 303
        assert second.run(renew_all(second.kernel)) >= 2
        assert second.run(renew_all(second.kernel)) == 0
        sql("UPDATE second_factors SET sealed_secret = substring(sealed_secret FOR 40) WHERE id = $1", broken)
    with start(secret=NEW) as third, logs("error") as canary:
        org.server = third
        there = Browser(third)
        there.cookies.update(cookies)
        assert not there.signed_in
        used = half(org, emails["rep"])
        assert used.submit(used.get("/sign-in/code"), code=codes["rep"][0]).status_code == 422
        assert used.submit(used.get("/sign-in/code"), code=codes["rep"][1]).status_code == 303
        lost = half(org, emails["colleague"])
        assert lost.submit(lost.get("/sign-in/code"), code=codes["colleague"][0]).status_code == 422
        assert "second_factor_unreadable" in canary.text
