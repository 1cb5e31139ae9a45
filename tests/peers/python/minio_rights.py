"""What a user of MinIO may do from now on; the user is made when it is not there.

Usage: minio_rights.py ENDPOINT REGION USER PASSWORD ACTION..., with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user
that may do everything. The admin API's import of users and policies is its one call for this that is not encrypted.
"""

import io
import json
import sys
import zipfile

import aws_signature


def main():
    endpoint, region, user, password, *actions = sys.argv[1:]
    policy = f"of-{user}"
    allowed = {"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*"]}
    assets = {
        "policies.json": {policy: {"Version": "2012-10-17", "Statement": [allowed]}},
        "users.json": {user: {"secretKey": password, "status": "enabled"}},
        "user_mappings.json": {user: {"version": 1, "policy": policy}},
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for name, content in assets.items():
            files.writestr(f"iam-assets/{name}", json.dumps(content))
    # The second version of the call says what it could not do.
    url = endpoint + "/minio/admin/v3/import-iam-v2"
    answer = json.loads(aws_signature.call("PUT", url, region, "s3", archive.getvalue()))
    refused = {kind: entities for kind, entities in answer.get("failed", {}).items() if entities}
    if refused:
        sys.exit(f"MinIO refuses: {refused}")


main()
