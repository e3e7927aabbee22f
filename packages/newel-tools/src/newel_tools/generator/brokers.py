"""What carries a service's events: its address, and how compose.yaml runs one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from newel_tools.plan.plan import Broker

__all__ = ["BROKERS", "BrokerView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerView:
    """One broker: the extra of newel that speaks to it, and the container that stands for it.

    ``address`` is the one inside of compose, ``example`` one on the developer's machine;
    ``password`` says that the container needs one, ``BROKER_PASSWORD``.
    """

    title: str
    extra: str
    address: str
    example: str
    image: str
    volume: str
    check: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    password: bool = False


BROKERS: Final[Mapping[Broker, BrokerView]] = {
    "kafka": BrokerView(
        title="Kafka",
        extra="kafka",
        address="kafka://broker:9092",
        example="kafka://localhost:9092",
        image="apache/kafka:4.1.0",
        volume="/var/lib/kafka/data",
        check=(
            "CMD",
            "/opt/kafka/bin/kafka-broker-api-versions.sh",
            "--bootstrap-server",
            "broker:9092",
        ),
        environment={
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://broker:9092",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        },
    ),
    "nats": BrokerView(
        title="NATS",
        extra="nats",
        address="nats://broker:4222",
        example="nats://localhost:4222",
        image="nats:2-alpine",
        volume="/data",
        check=("CMD", "wget", "--quiet", "--spider", "http://127.0.0.1:8222/healthz"),
        command=("--jetstream", "--store_dir", "/data", "--http_port", "8222"),
    ),
    "rabbit": BrokerView(
        title="RabbitMQ",
        extra="rabbit",
        address="amqp://service:${BROKER_PASSWORD:?set it in .env}@broker:5672/",
        example="amqp://user:password@localhost:5672/",
        image="rabbitmq:4-alpine",
        volume="/var/lib/rabbitmq",
        check=("CMD", "rabbitmq-diagnostics", "--quiet", "ping"),
        environment={
            "RABBITMQ_DEFAULT_USER": "service",
            "RABBITMQ_DEFAULT_PASS": "${BROKER_PASSWORD:?set it in .env}",
        },
        password=True,
    ),
    "redis": BrokerView(
        title="Redis streams",
        extra="redis",
        address="redis://broker:6379/0",
        example="redis://localhost:6379/1",
        image="valkey/valkey:9-alpine",
        volume="/data",
        check=("CMD", "valkey-cli", "ping"),
        command=("valkey-server", "--appendonly", "yes"),  # events that were sent must stay
    ),
}
"""Every broker that a plan can name."""
