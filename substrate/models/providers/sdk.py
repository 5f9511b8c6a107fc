"""The SDKs of Anthropic, Groq and OpenAI, which one generator made: what is the same in all.

Invariants: a call is sent once, since the SDK's retries are off; it follows no redirect, since the
conversation would go along. Whatever the SDK and its transport raise becomes a `ModelError`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, cast

from substrate.models.parts import Json
from substrate.models.providers.bounded import bounding
from substrate.models.providers.failures import (
    of_event,
    of_response,
    transport_failed,
    unsent,
)
from substrate.models.providers.stream import Opening
from substrate.values.errors import BadRequest

CONNECT_S = 10.0
"""How long a connection may take to come about."""

ClientT = TypeVar("ClientT")


@dataclass(frozen=True, slots=True)
class Sdk:
    """One such SDK."""

    #: Its package.
    package: ModuleType
    #: The parent of all errors of its own.
    error: type[Exception]
    #: The package of its HTTP client.
    http: ModuleType

    def client(
        self, make: Callable[..., ClientT], provider: str, remedy: str, **arguments: Any
    ) -> ClientT:
        """Return a client that tries nothing again, and by which no answer grows without end.

        Args:
            make: The SDK's class of clients.
            provider: Whose it is, for an error.
            remedy: What to check where its key or its address cannot be used: `BadRequest`.
            arguments: What the class takes beside that: the key and the address among them.
        """
        hook = bounding(reads_all_as_events=True)
        try:
            client = self.package.DefaultAsyncHttpxClient(event_hooks={"response": [hook]})
            return make(max_retries=0, http_client=client, **arguments)
        except (self.error, self.http.InvalidURL) as error:
            raise BadRequest(f"{provider}: {error}; {remedy}") from error

    def open(
        self, post: Callable[..., Any], path: str, body: dict[str, Json], silence_s: float
    ) -> Opening:
        """Return a streaming call, not yet sent, whose events come as the JSON that they are.

        Args:
            post: The method of the SDK's client.
            path: Where, below the client's base URL.
            body: The request.
            silence_s: For how many seconds nothing may come.
        """
        timeout = self.package.Timeout(silence_s, connect=min(silence_s, CONNECT_S))
        return cast(
            "Opening",
            post(
                path,
                cast_to=object,
                body=body,
                options={"timeout": timeout, "follow_redirects": False},
                stream=True,
                stream_cls=self.package.AsyncStream[object],
            ),
        )

    @contextmanager
    def failing_as_ours(self, model: str) -> Iterator[None]:
        """Turn what the SDK and its transport raise about a model into `ModelError`."""
        sdk = self.package
        try:
            yield
        except sdk.APIStatusError as error:  # a status that is no success
            raise of_response(model, error) from error
        except sdk.APIConnectionError as error:
            what = f"did not answer: {error} ({error.__cause__!r})"
            raise transport_failed(model, what) from error
        except sdk.APIError as error:  # the parent of both: an error inside a stream
            raise of_event(model, error, error.body) from error
        except self.http.HTTPError as error:
            raise transport_failed(model, f"broke off: {error!r}") from error
        except UnicodeEncodeError as error:  # of ours, before anything was sent
            raise unsent(model, error) from error
        except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested too deeply
            raise transport_failed(model, f"sent what cannot be read: {error}") from error
        except (self.error, TypeError) as error:  # no credentials; a setting that is not JSON
            raise unsent(model, error) from error
