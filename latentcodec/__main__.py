"""python -m latentcodec: the command line, where its script is not on the path."""

from latentcodec.cli.main import main

if __name__ == "__main__":
    main(prog_name="latentcodec")
