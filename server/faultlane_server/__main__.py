"""`python -m faultlane_server` is `faultlane-server`."""

from faultlane_server.cli import main

if __name__ == "__main__":
    main()
