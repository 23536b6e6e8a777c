"""`routers:` one file, several configurations, and mistakes named where they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamtrain.config import ConfigError, load, parse, parse_service

BASE = Path("/etc/streamtrain")
TWO = """\
logs: {max_line: 2MiB}
gate:
  min_auc: 0.7
  min_accuracy: 0.8
status: {listen: null}
routers:
  - name: chat
    logs: {directory: /var/log/chat}
    gate:
      min_auc: 0.65
  - name: search
    logs:
      directory: /var/log/search
    schema: trajectory
    state: {directory: elsewhere}
"""


def mistakes(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_service(text, BASE)
    return {mistake.key: str(mistake) for mistake in caught.value.mistakes}


def test_sections_are_put_over_the_shared_ones_key_by_key() -> None:
    service = parse_service(TWO, BASE)
    chat, search = service.routers.values()
    assert [*service.routers] == ["chat", "search"]
    assert (chat.gate.min_auc, chat.gate.min_accuracy) == (0.65, 0.8)
    assert (search.gate.min_auc, search.gate.min_accuracy) == (0.7, 0.8)
    assert chat.logs.max_line_bytes == search.logs.max_line_bytes == 2 << 20
    assert search.schema.join is not None
    assert chat.schema.join is None
    assert service.status.listen is None


def test_each_gets_a_directory_of_its_own_unless_it_says_which() -> None:
    chat, search = parse_service(TWO, BASE).routers.values()
    assert chat.state.directory == BASE / "state" / "chat"
    assert chat.models.directory == BASE / "models" / "chat"
    assert search.state.directory == BASE / "elsewhere"
    shared = parse_service(TWO + "models: {directory: /srv, keep: 3}\n", BASE).routers["search"].models
    assert (shared.directory, shared.keep) == (Path("/srv/search"), 3)


def test_a_file_without_routers_is_one_without_a_name() -> None:
    text = "logs: {directory: in}\n"
    service = parse_service(text, BASE)
    assert service.routers == {"": parse(text, BASE)}
    assert service.routers[""].state.directory == BASE / "state"


def test_mistakes_are_named_where_they_are_written() -> None:
    text = TWO.replace("min_auc: 0.65", "min_auc: 9\n      min_acuracy: 1").replace(
        "min_accuracy: 0.8", "confidence: 2"
    )
    found = mistakes(text + "  - name: chat\n    status: {}\n    gaet: {}\n  - 5\n  - logs: {directory: x}\n")
    assert found["routers[0].gate.min_auc"].startswith("line 10: ")
    assert "did you mean min_accuracy?" in found["routers[0].gate.min_acuracy"]
    assert found["gate.confidence"].startswith("line 4: ")
    assert "no other router" in found["routers[2].name"]
    assert "routers[2].logs.directory" in found
    assert "beside `routers`" in found["routers[2].status"]
    assert "routers[2].gaet" in found
    assert "routers[3]" in found
    assert "required" in found["routers[4].name"]
    assert len(found) == 9


@pytest.mark.parametrize("given", ["[]", "5", "chat", "{name: chat}"])
def test_the_list_is_a_list(given: str) -> None:
    assert "routers" in mistakes(f"routers: {given}\n")


@pytest.mark.parametrize("name", ["''", "a/b", "..", "-a", "5", "a b", "null", "'" + "x" * 65 + "'"])
def test_a_name_is_the_name_of_a_directory(name: str) -> None:
    assert "routers[0].name" in mistakes(f"routers:\n  - name: {name}\n    logs: {{directory: in}}\n")


def test_what_must_hold_between_keys_names_the_router() -> None:
    text = TWO.replace("gate:\n      min_auc: 0.65", "trigger: {min_samples: 200000}")
    assert "dataset.window" in mistakes(text)["routers[0].trigger.min_samples"]
    text = TWO + "trigger: {min_samples: 200000}\n"
    assert [*mistakes(text)] == ["trigger.min_samples"]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("{directory: elsewhere}", "{directory: state/chat}"), "routers[1].state.directory"),
        (("{directory: elsewhere}", "{directory: models/chat}"), "routers[1].state.directory"),
        (("{directory: elsewhere}", "{directory: /var/log/chat/state}"), "routers[1].state.directory"),
        (
            ("directory: /var/log/search", "directory: /var/log\n      after_ingest: delete"),
            "routers[1].logs.after_ingest",
        ),
    ],
)
def test_routers_do_not_get_in_each_others_way(change: tuple[str, str], key: str) -> None:
    assert key in mistakes(TWO.replace(*change))


def test_two_may_read_the_same_logs() -> None:
    assert len(parse_service(TWO.replace("/var/log/search", "/var/log/chat"), BASE).routers) == 2


def test_one_is_chosen_by_name(tmp_path: Path) -> None:
    file = tmp_path / "streamtrain.yaml"
    file.write_text(TWO)
    assert load(file, "chat").logs.directory == Path("/var/log/chat")
    for router in (None, "other"):
        with pytest.raises(ConfigError, match="chat, search"):
            load(file, router)
    file.write_text("logs: {directory: in}\n")
    assert load(file).logs.directory == tmp_path / "in"
    with pytest.raises(ConfigError, match="no `routers`"):
        load(file, "chat")
    file.write_text("routers: [{name: chat, logs: {directory: in}}]\n")
    assert load(file) == load(file, "chat")
