"""The settings: from `GENATLAS_*` variables, `genatlas.toml` in the working directory, or the defaults here."""

from pathlib import Path
from typing import Literal, Self

from platformdirs import user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from graph import AtlasError

SHIPPED_CORPUS = Path(__file__).resolve().parent.parent / "corpus"


class SettingsInvalid(AtlasError):
    """A setting has a value that it cannot have. The message names each one."""


class Settings(BaseSettings):
    """Where things are and how they run; made once, at the edge, by `read`, whose errors are words."""

    model_config = SettingsConfigDict(env_prefix="GENATLAS_", toml_file="genatlas.toml", frozen=True, extra="forbid")

    home: Path = Field(
        default_factory=lambda: user_data_path("genatlas", appauthor=False),
        description="Folder of snapshots, models and cached demo results",
    )
    corpus: Path = Field(
        default=SHIPPED_CORPUS, description="Folder of the outline and what was written about its topics"
    )
    progress_url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL of the database of learners' progress; a file in the home if left out"
    )
    profile: str = Field(default="me", min_length=1, description="Learner profile of whoever names no other")
    store: Literal["embedded", "neo4j"] = Field(
        default="embedded", description="Where the atlas is read: the snapshot in the home, or a Neo4j server"
    )
    neo4j_url: str = Field(
        default="", description="Address of the Neo4j server; that of `genatlas neo4j start` if left out"
    )
    neo4j_user: str = Field(default="neo4j", description="User at that server")
    neo4j_password: SecretStr | None = Field(default=None, description="The user's password, from the environment")
    neo4j_database: str = Field(default="neo4j", description="Database of that server")
    neo4j_seconds: float = Field(default=15, ge=1, le=3600, description="Time limit of one query to it, in seconds")
    precision: Literal["int8", "fp32"] = Field(
        default="int8", description="Arithmetic of the query encoder; passages are always encoded in fp32"
    )
    demo_seconds: float = Field(default=300, ge=1, le=3600, description="Wall-clock limit of one demo run, in seconds")
    demo_memory_mb: int = Field(default=3072, ge=256, description="Memory limit of one demo run, in MiB")
    requests_per_minute: int = Field(
        default=1200,
        ge=1,
        description="Requests a minute over HTTP of a key without a limit of its own, and of an address",
    )
    cors_origins: tuple[str, ...] = Field(default=(), description="Web sites whose pages may ask over HTTP")
    traces_url: str = Field(default="", description="OTLP endpoint that takes traces of requests; none by default")
    llm_url: str = Field(default="", description="OpenAI-compatible endpoint that may retell answers; none by default")
    llm_model: str = Field(default="", description="Name of the model at that endpoint")
    llm_key: SecretStr | None = Field(default=None, description="Its key, from the environment alone")
    llm_seconds: float = Field(default=60, ge=1, le=600, description="Time limit of one request to it, in seconds")
    llm_tokens: int = Field(default=600, ge=50, le=8000, description="Most tokens that one answer of it may have")
    llm_price_read: float = Field(default=0, ge=0, description="Price of a million tokens that it reads")
    llm_price_written: float = Field(default=0, ge=0, description="Price of a million tokens that it writes")

    @classmethod
    def read(cls) -> Self:
        """Read the settings. Raises SettingsInvalid naming every wrong one."""
        try:
            return cls()
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            raise SettingsInvalid(
                "Wrong setting (GENATLAS_* variable or genatlas.toml): "
                + "; ".join(wrong)
                + ". All settings: docs/settings.md"
            ) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (named by the library)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
