"""Credentials of MinIO that may read and nothing else, from its security token service.

Usage: minio_reader.py ENDPOINT REGION, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user that may do everything.
Prints one JSON object: access_key, secret_key, session_token.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as xml

import aws_signature

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


def main():
    endpoint, region = sys.argv[1:]
    fields = {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "3600", "Policy": json.dumps(POLICY)}
    answer = aws_signature.call("POST", endpoint + "/", region, "sts", urllib.parse.urlencode(fields).encode())
    found = xml.fromstring(answer).find(".//{*}Credentials")
    names = {"access_key": "AccessKeyId", "secret_key": "SecretAccessKey", "session_token": "SessionToken"}
    print(json.dumps({ours: found.find("{*}" + theirs).text for ours, theirs in names.items()}))


main()
