"""``python -m tunnel_server``, and the entry point of the command ``tunnel-server``."""

from tunnel_server.app.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="tunnel-server")


if __name__ == "__main__":
    main()
