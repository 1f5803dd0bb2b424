"""Those who take part in a play begin with nothing behind them."""

from __future__ import annotations

from sim.seeds.play import Play
from sim.seeds.scenario import scenario_of


def test_stories_end_and_routers_are_left_empty() -> None:
    play = Play(scenario_of(0))
    assert not play.stories
    play.run()
    assert all(story.ended and not story.waits and not story.live for story in play.stories)
    assert str(play.stories[0]) == f"request {play.stories[0].ask.number}"
    assert all(not router.live for router in play.routers)
    assert all(len(set(story.asked)) == len(story.asked) for story in play.stories)
