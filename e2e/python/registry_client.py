"""A client of others: reads the log of Annals and uses its registry, with confluent-kafka alone.

    registry_client.py KAFKA REGISTRY EVENTS_TOPIC OWN_TOPIC

Prints what it read of EVENTS_TOPIC, one JSON object a line; everything else is asserted here.
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Metadata,
    MetadataProperties,
    Rule,
    RuleKind,
    RuleMode,
    RuleParams,
    RuleSet,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    SchemaRegistryError,
    ServerConfig,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

PATIENCE_S = 90


def record(name, *fields, **more):
    return json.dumps({"type": "record", "namespace": "python", "name": name, "fields": list(fields), **more})


def field(name, type_, **more):
    return {"name": name, "type": type_, **more}


def avro(text, **more):
    return Schema(text, "AVRO", **more)


def refused(code, action, *arguments):
    try:
        action(*arguments)
    except SchemaRegistryError as error:
        assert error.error_code == code, error
        return error
    raise AssertionError(f"{action} was not refused")


def read_all(kafka, topic, decode):
    """Everything that the topic holds at this moment, decoded."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "python",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    partitions = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions
    ends = {}
    for number in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=PATIENCE_S)
        if low < high:
            ends[number] = high
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    values, unread, deadline = [], set(ends), time.monotonic() + PATIENCE_S
    while unread:
        assert time.monotonic() < deadline, f"still waiting for {unread} of {ends}"
        message = consumer.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            # Others go on writing meanwhile.
            if message.offset() < ends[message.partition()]:
                values.append(decode(message))
        # Markers have offsets too, and no messages.
        places = consumer.position([TopicPartition(topic, number) for number in unread])
        unread = {place.partition for place in places if place.offset < ends[place.partition]}
    consumer.close()
    return values


def reads_the_log(kafka, client, topic):
    decode = AvroDeserializer(client)

    def event(message):
        headers = {name: value.decode() for name, value in message.headers()}
        value = decode(message.value(), SerializationContext(topic, MessageField.VALUE))
        return {"type": headers["ce_type"], "subject": headers["ce_subject"], "data": value}

    for read in read_all(kafka, topic, event):
        print(json.dumps(read))


def writes_and_evolves(kafka, client, topic):
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE_S)
    first = record("Person", field("name", "string"))
    second = record("Person", field("name", "string"), field("mail", ["null", "string"], default=None))
    subject = f"{topic}-value"
    producer = Producer({"bootstrap.servers": kafka})

    def write(schema, value):
        encode = AvroSerializer(client, schema)
        payload = encode(value, SerializationContext(topic, MessageField.VALUE))
        producer.produce(topic, payload)
        assert producer.flush(PATIENCE_S) == 0

    write(first, {"name": "Ada"})
    assert client.test_compatibility(subject, avro(second))
    write(second, {"name": "Bo", "mail": "bo@parrots"})
    write(first, {"name": "Cy"})
    assert client.get_versions(subject) == [1, 2]

    def read_with(schema):
        decode = AvroDeserializer(client, schema)
        context = SerializationContext(topic, MessageField.VALUE)
        return read_all(kafka, topic, lambda message: decode(message.value(), context))

    assert read_with(first) == [{"name": "Ada"}, {"name": "Bo"}, {"name": "Cy"}]
    assert read_with(second) == [
        {"name": "Ada", "mail": None},
        {"name": "Bo", "mail": "bo@parrots"},
        {"name": "Cy", "mail": None},
    ]
    broken = avro(record("Person", field("name", "string"), field("age", "int")))
    assert not client.test_compatibility(subject, broken)
    error = refused(409, client.register_schema, subject, broken)
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in error.error_message, error
    refused(42201, client.register_schema, subject, avro('{"type": "recor'))
    return subject


def speaks_the_rest(client, subject):
    # Looking up by schema, by id, by guid, by version.
    latest = client.get_latest_version(subject)
    assert client.lookup_schema(subject, latest.schema).version == latest.version == 2
    assert client.get_schema(latest.schema_id).schema_str == latest.schema.schema_str
    assert client.get_schema_by_guid(latest.guid).schema_str == latest.schema.schema_str
    assert client.get_version(subject, 1).schema_id != latest.schema_id
    refused(40401, client.get_latest_version, "python-nobody")
    refused(40402, client.get_version, subject, 9)
    # Settings.
    assert client.set_compatibility(subject, "FULL") == {"compatibility": "FULL"}
    assert client.get_compatibility(subject) == "FULL"
    client.set_config(subject, ServerConfig(ConfigCompatibilityLevel.NONE, compatibility_group="major"))
    settings = client.get_config(subject)
    assert settings.compatibility_group == "major", settings
    # A data contract.
    rule = Rule(
        "split", "why", RuleKind.TRANSFORM, RuleMode.UPGRADE, "ANNALS", ["PII"],
        RuleParams({"limit": "1"}), "{}", None, "ERROR", False,
    )
    contract = avro(
        record("Person", field("name", "int")),
        metadata=Metadata(None, MetadataProperties({"major": "2", "owner": "ada"}), None),
        rule_set=RuleSet([rule], None),
    )
    identity = client.register_schema(subject, contract)
    found = client.get_latest_with_metadata(subject, {"major": "2"})
    assert found.schema_id == identity, found
    assert found.schema.rule_set.migration_rules[0].params.params == {"limit": "1"}, found.schema.rule_set
    assert found.schema.metadata.properties.properties["owner"] == "ada"
    # References.
    other = f"{subject}-list"
    people = avro(
        json.dumps({"type": "array", "items": "python.Person"}),
        references=[SchemaReference("python.Person", subject, 2)],
    )
    client.register_schema(other, people)
    refused(42206, client.delete_version, subject, 2)
    # Deleting, softly first.
    assert client.delete_subject(other) == [1]
    assert client.delete_subject(other, permanent=True) == [1]
    assert other not in client.get_subjects()


def main():
    kafka, registry, events, own = sys.argv[1:]
    client = SchemaRegistryClient({"url": registry})
    reads_the_log(kafka, client, events)
    subject = writes_and_evolves(kafka, client, own)
    # Without what it has cached of its own registrations.
    speaks_the_rest(SchemaRegistryClient({"url": registry}), subject)


main()
