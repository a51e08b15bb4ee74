from pathlib import Path

from tests.gateway.harness import running_server


async def test_served_model_is_listed_alone_under_its_public_name(tmp_path: Path) -> None:
    async with running_server(tmp_path, model_id="Qwen/Qwen3-ASR-0.6B") as server:
        answer = await server.get("/v1/models")

    assert answer.json["object"] == "list"
    (model,) = answer.json["data"]
    assert model["id"] == "Qwen/Qwen3-ASR-0.6B"
    assert model["object"] == "model"
    assert model["owned_by"] == "Qwen"
    assert isinstance(model["created"], int)
    assert "description" not in model


async def test_embedded_model_says_plainly_what_it_hears(tmp_path: Path) -> None:
    async with running_server(tmp_path, model_id="embedded") as server:
        (model,) = (await server.get("/v1/models")).json["data"]

    assert "digits" in model["description"]
    assert model["owned_by"] == "qwen3-asr-server"


async def test_model_is_found_by_its_id_with_the_slash_escaped_or_not(tmp_path: Path) -> None:
    async with running_server(tmp_path, model_id="Qwen/Qwen3-ASR-0.6B") as server:
        for path in ("/v1/models/Qwen%2FQwen3-ASR-0.6B", "/models/Qwen/Qwen3-ASR-0.6B"):
            answer = await server.get(path)
            assert (answer.status, answer.json["id"]) == (200, "Qwen/Qwen3-ASR-0.6B")


async def test_names_clients_hard_code_are_found_and_name_what_serves_them(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/models/whisper-1")

    assert (answer.json["id"], answer.json["root"]) == ("whisper-1", "embedded")


async def test_unknown_model_is_a_404(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/models/gpt-4")

    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")


async def test_path_of_a_model_folder_is_not_told(tmp_path: Path) -> None:
    async with running_server(tmp_path, model_id=str(tmp_path / "mine")) as server:
        answers = [await server.get(path) for path in ("/v1/models", "/health", "/")]

    assert answers[0].json["data"][0]["id"] == "mine"
    assert all(str(tmp_path).encode() not in answer.body for answer in answers)


async def test_asking_for_models_wakes_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.get("/v1/models")

        assert server.client.requests == []
