"""A page to explore what a model looks at: ``paddle-cait app``, or three lines of your own (:mod:`.page`).

``checkpoints`` says what is offered, ``studio`` computes and remembers, ``preview`` draws quickly, ``page`` connects
the controls that ``layout`` places, and ``serve`` keeps everything on this machine. Only the last three know gradio.
"""
