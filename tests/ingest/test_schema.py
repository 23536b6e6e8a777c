"""The schema: names and digest."""

from streamtrain.ingest.schema import GUIDE_FEATURES, Schema, VectorField


def test_default_is_the_guides_log():
    schema = Schema()
    assert schema.feature_names == GUIDE_FEATURES
    assert (schema.label, schema.timestamp, schema.id) == ("lightweight_successful", "timestamp", "id")


def test_an_array_names_its_places():
    assert Schema(features=VectorField("v", 2)).feature_names == ("v[0]", "v[1]")


def test_digest_tells_schemas_apart_and_is_stable():
    schemas = [
        Schema(),
        Schema(features=tuple(reversed(GUIDE_FEATURES))),
        Schema(features=VectorField("v", 5)),
        Schema(features=VectorField("v", 6)),
        Schema(session="s"),
        Schema(teacher="s"),
        Schema(id=None),
    ]
    assert len({schema.digest for schema in schemas}) == len(schemas)
    assert Schema().digest == "49af3ecdbc10fc0c156a7f544c3bbaa72f92c8c77e8d3afa7103934d27414940"
