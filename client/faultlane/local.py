"""A server inside this process, for notebooks, tests and the command line."""

from faultlane.access import Access
from faultlane.client import Client
from faultlane.errors import MissingExtra


def local(workers: int | None = None) -> Client:
    """Start a server in this process, and return a client that ends it when it is closed.

    The first start on a machine compiles the simulator, which takes up to a minute.

    Parameters
    ----------
    workers
        How many simulations run at once; None leaves it to the server.

    Raises
    ------
    MissingExtra
        If the server is not installed.

    Examples
    --------
    >>> with local(workers=1) as client:
    ...     client.get_server_info().workers
    1
    """
    try:
        from faultlane_server.service.local import LocalServer
    except ModuleNotFoundError as error:
        raise MissingExtra(f"no server here ({error}): pip install 'faultlane[server]'") from error
    server = LocalServer(workers=workers)
    try:
        return Client.connect(server.start(), Access(), on_close=server.close)
    except BaseException:  # an interrupt too: it may take minutes to start
        server.close()
        raise
