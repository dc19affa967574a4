"""A registry's REST API: one request at a time, each answered, refused or told with its remedy."""

from collections.abc import Mapping
from typing import Any

from optduel.components.core import RefusedError, StorageError

_TIMEOUT_SECONDS = (10, 60)


class RegistryServer:
    """A registry over its REST API, without cookies, redirects or settings of anybody's home.

    Args:
        base: address of the API, to which paths are added.
        name: of the product, for messages.
        authorization: the header's value, or a user with a password; None for neither.
        variables: that a secret sets, for messages.
    """

    def __init__(
        self, base: str, name: str, authorization: str | tuple[str, str] | None, variables: str
    ) -> None:
        import requests

        self._base, self._name, self._variables = base, name, variables
        self._session = requests.Session()
        self._session.trust_env = False  # a .netrc of somebody's home is no setting of ours
        if isinstance(authorization, str):
            self._session.headers["Authorization"] = authorization
        else:
            self._session.auth = authorization

    def get(self, path: str, query: Mapping[str, Any], accepted: tuple[int | str, ...] = ()) -> Any:
        """Reads. Arguments and errors are those of `post`."""
        return self._ask("GET", path, accepted, params=query)

    def post(self, path: str, body: Mapping[str, Any], accepted: tuple[int | str, ...] = ()) -> Any:
        """Makes or changes something.

        Args:
            path: below the API's address.
            body: JSON.
            accepted: status codes and error codes that are no refusal; the answer to them is None.

        Raises:
            RefusedError: the server refuses.
            StorageError: it cannot be reached, or does not answer as it should.
        """
        return self._ask("POST", path, accepted, json=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Changes fields of something. Arguments and errors are those of `post`."""
        return self._ask("PATCH", path, (), json=body)

    def _ask(self, method: str, path: str, accepted: tuple[int | str, ...], **how: Any) -> Any:
        import requests

        place = f"{self._base}/{path}"
        try:
            answer = self._session.request(
                method, place, timeout=_TIMEOUT_SECONDS, allow_redirects=False, **how
            )
            told = answer.json() if answer.content else {}
        except (requests.RequestException, ValueError) as error:
            raise StorageError(
                f"{place}: does not answer as {self._name} does ({type(error).__name__}); check "
                "retraining.registry.address and the server"
            ) from error
        if answer.ok:
            return told
        said = told if isinstance(told, dict) else {}
        if answer.status_code in accepted or said.get("error_code") in accepted:
            return None
        kind = StorageError if answer.status_code >= 500 or answer.status_code == 429 else RefusedError
        raise kind(
            f"{place}: HTTP {answer.status_code}: {str(said.get('message', ''))[:300]}; check "
            f"retraining.registry, and {self._variables}"
        )
