"""The pipeline in an uploaded form, as the API server reads it."""

import email
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

Object = dict[str, Any]


def read_package(content: bytes) -> Object:
    """The pipeline in an uploaded form, checked against KFP's schema, as the server returns it."""
    boundary = content.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    head = f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n".encode()
    (part,) = email.message_from_bytes(head + content).get_payload()  # type: ignore[misc]
    assert part.get_param("name", header="content-disposition") == "uploadfile"  # type: ignore[union-attr]
    documents = list(yaml.load_all(part.get_payload(decode=True), yaml.CSafeLoader))  # type: ignore[union-attr, arg-type]
    json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    if len(documents) == 1:
        return dict(documents[0])
    json_format.ParseDict(documents[1], pipeline_spec_pb2.PlatformSpec())
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}
