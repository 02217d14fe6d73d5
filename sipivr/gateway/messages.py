"""What the operator reads when a payment is refused, by message key, in both languages.

These are explanations for the desk and the API, not prompts: the customer hears the phrase of the decline's
category (`sipivr.prompts`).
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Message(NamedTuple):
    """One explanation."""

    ja: str
    en: str


MESSAGES: Final[dict[str, Message]] = {
    "card.number_wrong": Message("カード番号に誤りがあります。", "The card number is wrong."),
    "card.expiry_wrong": Message("有効期限に誤りがあります。", "The expiry date is wrong."),
    "card.security_code_wrong": Message(
        "セキュリティコードに誤りがあります。", "The security code is wrong."
    ),
    "card.security_code_missing": Message("セキュリティコードが必要です。", "A security code is needed."),
    "card.balance": Message("カードの残高が不足しています。", "The card has not enough balance."),
    "card.limit": Message("カードの限度額を超えています。", "The card's limit is exceeded."),
    "card.unusable": Message("このカードはご利用になれません。", "This card cannot be used."),
    "card.issuer": Message("カード会社が取引を承認しませんでした。", "The issuer declined."),
    "card.brand_not_accepted": Message(
        "このショップで取り扱いのないカードです。", "This shop does not accept this card company."
    ),
    "gateway.shop_settings": Message(
        "ショップの設定または契約に誤りがあります。管理者に連絡してください。",
        "The shop's settings or contract are not right; tell the administrator.",
    ),
    "gateway.request": Message(
        "決済の要求が受け付けられませんでした。請求はされていません。",
        "The gateway did not accept the request; nothing was charged.",
    ),
    "gateway.trade_state": Message(
        "取引の状態により処理できません。", "The trade's state does not allow this."
    ),
    "gateway.maybe_charged": Message(
        "すでに処理されている可能性があります。確認しています。",
        "The charge may already stand; it is being checked.",
    ),
    "gateway.still_processing": Message("決済会社で処理中です。確認しています。", "Still being processed."),
    "gateway.system_failure": Message(
        "決済会社で障害が発生しました。結果を確認しています。",
        "The gateway had a fault; the outcome is being checked.",
    ),
    "gateway.unknown_code": Message(
        "不明な応答です。結果を確認しています。",
        "An answer that we do not know; the outcome is being checked.",
    ),
    "gateway.try_later": Message(
        "ただいま決済を受け付けられません。時間をおいてやり直してください。",
        "The payment cannot be taken now; try again later.",
    ),
    "gateway.pay_method": Message("指定の支払方法は利用できません。", "This way of paying is not possible."),
    "gateway.member": Message(
        "会員または登録カードに誤りがあります。", "Member or registered card is not right."
    ),
    "gateway.token": Message(
        "カード情報の受け渡しに失敗しました。もう一度入力が必要です。",
        "Handing over the card failed; it has to be entered again.",
    ),
    "gateway.authorization_expired": Message("与信の期限が切れています。", "The authorization has expired."),
    "gateway.authentication_needed": Message(
        "本人認証が必要なため、電話では決済できません。",
        "The gateway asks for cardholder authentication, which a telephone call cannot give.",
    ),
}
