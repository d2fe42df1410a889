"""The web page in a real browser: for eyes, ears and hands of all kinds, and for small screens."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.page import (
    Gate,
    Served,
    answered,
    ask,
    opened_page,
    overflow,
    serious,
)

PHONE = {"width": 360, "height": 740}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, server: Served, scheme: Any) -> None:
    with opened_page(browser, server.url, color_scheme=scheme) as page:
        page.goto("/")
        assert serious(page) == []
        page.get_by_role("button", name="Filter").click()
        ask(page)
        turn = answered(page)
        turn.locator(".passages > summary").click()
        turn.locator(".passage > summary").first.click()
        turn.get_by_role("button", name="Verify the chain").click()
        expect(turn.locator(".check-result")).to_contain_text("The chain holds.")
        turn.locator(".marker").first.click()
        expect(page.locator(".facts")).to_be_visible()
        assert serious(page) == []


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    press = page.keyboard.press
    press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    press("Enter")
    expect(page.locator("#main")).to_be_focused()
    press("Tab")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("How is the pump")
    press("Shift+Enter")
    page.keyboard.type("primed?")
    assert page.input_value("#question") == "How is the pump\nprimed?"
    press("Enter")
    answered(page)
    expect(page.locator("#question")).to_be_focused()
    for _ in range(40):
        press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('.marker')"):
            break
    focused = page.locator(".marker:focus")
    assert focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    name = focused.get_attribute("aria-label")
    press("Enter")
    expect(page.locator("#source-title")).to_be_focused()
    press("Tab")
    press("Escape")
    expect(page.locator(".marker:focus")).to_have_attribute("aria-label", str(name))
    press("Tab")
    while not page.evaluate("document.activeElement.matches('.passages > summary')"):
        press("Tab")
    press("Enter")
    press("Tab")
    press("Enter")
    expect(page.locator(".why").first).to_be_visible()


def test_a_phone_shows_everything_without_scrolling_sideways(browser: Browser, server: Served) -> None:
    with opened_page(browser, server.url, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.goto("/")
        assert overflow(page) == 0
        ask(page, "What is the serial number of the invoice?")
        turn = answered(page)
        turn.locator(".passages > summary").tap()
        turn.locator(".passage > summary").first.tap()
        assert overflow(page) == 0
        turn.locator(".marker").first.tap()
        sheet = page.get_by_role("dialog", name="corpus/hostile.md")
        expect(sheet.locator("mark")).to_be_visible()
        assert sheet.bounding_box() == {"x": 0, "y": 0, **PHONE}
        assert page.evaluate("document.getElementById('main').inert && document.querySelector('.bar').inert")
        assert overflow(page) == 0
        assert serious(page) == []
        sheet.get_by_role("button", name="Close").tap()
        assert not page.evaluate("document.getElementById('main').inert")
        page.get_by_role("button", name="Filter").tap()
        assert overflow(page) == 0


def test_the_theme_is_the_readers_choice_and_nothing_moves_for_those_who_mind(
    browser: Browser, server: Served, gate: Gate
) -> None:
    canvas = "getComputedStyle(document.body).backgroundColor"
    with opened_page(browser, server.url, color_scheme="dark", reduced_motion="reduce") as page:
        page.goto("/")
        dark = page.evaluate(canvas)
        page.locator("#theme-button").click()
        expect(page.locator("#theme-button")).to_have_accessible_name("Theme: light")
        light = page.evaluate(canvas)
        assert light != dark
        page.reload()
        assert page.evaluate(canvas) == light
        gate.shut()
        ask(page)
        expect(page.locator(".working")).to_be_visible()
        animation = "getComputedStyle(document.querySelector('.working'), '::before').animationName"
        assert page.evaluate(animation) == "none"
        gate.open()
        answered(page)
