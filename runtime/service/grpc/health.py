"""The messages of gRPC's health checking protocol, which probes know: grpc.health.v1.

They are declared here because no package that the service needs brings them.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import ParseDict

SERVICE = "grpc.health.v1.Health"
SERVING, NOT_SERVING = 1, 2  # of its enum ServingStatus

_pool = descriptor_pool.DescriptorPool()  # a pool of its own: another package may declare the same messages
_pool.Add(
    ParseDict(
        {
            "name": "health.proto",
            "package": "grpc.health.v1",
            "syntax": "proto3",
            "messageType": [
                {"name": "HealthCheckRequest", "field": [{"name": "service", "number": 1, "type": "TYPE_STRING"}]},
                {"name": "HealthCheckResponse", "field": [{"name": "status", "number": 1, "type": "TYPE_INT32"}]},
            ],
        },
        descriptor_pb2.FileDescriptorProto(),
    )
)
Request = message_factory.GetMessageClass(_pool.FindMessageTypeByName("grpc.health.v1.HealthCheckRequest"))
Response = message_factory.GetMessageClass(_pool.FindMessageTypeByName("grpc.health.v1.HealthCheckResponse"))
