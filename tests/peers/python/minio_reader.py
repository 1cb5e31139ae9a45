"""Credentials of MinIO that may read and nothing else, from its security token service.

Usage: minio_reader.py ENDPOINT REGION, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user that may do everything.
Prints one JSON object: access_key, secret_key, session_token.
"""

import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as xml

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"],
            "Resource": ["arn:aws:s3:::*"],
        }
    ],
}


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed(endpoint, region, body):
    """The headers of an AWS signature, version 4, for a POST to the root of the service `sts`."""
    now = datetime.datetime.now(datetime.timezone.utc)
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    host = urllib.parse.urlparse(endpoint).netloc
    digest = hashlib.sha256(body).hexdigest()
    request = f"POST\n/\n\nhost:{host}\nx-amz-date:{moment}\n\nhost;x-amz-date\n{digest}"
    scope = f"{day}/{region}/sts/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (day, region, "sts", "aws4_request"):
        key = sign(key, part)
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = sign(key, text).hex()
    return {
        "X-Amz-Date": moment,
        "Content-Type": "application/x-www-form-urlencoded",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}",
    }


def main():
    endpoint, region = sys.argv[1:]
    fields = {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "3600", "Policy": json.dumps(POLICY)}
    body = urllib.parse.urlencode(fields).encode()
    request = urllib.request.Request(endpoint + "/", body, signed(endpoint, region, body))
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = xml.fromstring(answer.read()).find(".//{*}Credentials")
    names = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "session_token": "SessionToken"}
    print(json.dumps({ours: found.find("{*}" + theirs).text for ours, theirs in names.items()}))


main()
