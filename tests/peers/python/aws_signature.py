"""Requests signed as AWS wants them (signature, version 4), with the keys of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""

import datetime
import hashlib
import hmac
import os
import urllib.parse
import urllib.request


def keyed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def call(method, url, region, service, body):
    """The answer's body. Without a query in the URL: none of the calls here has one."""
    moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    day, place = moment[:8], urllib.parse.urlparse(url)
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": place.netloc, "x-amz-content-sha256": digest, "x-amz-date": moment}
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    request = f"{method}\n{place.path}\n\n{lines}\n{';'.join(signed)}\n{digest}"
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = keyed(key, part)
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(signed)}, Signature={keyed(key, text).hex()}"
    )
    del signed["host"]
    headers = signed | {"Authorization": authorization, "Content-Type": "application/x-www-form-urlencoded"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=30) as answer:
        return answer.read()
