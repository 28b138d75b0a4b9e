//! The texts of the page.

use crate::console::enrol::Language;

/// Every text of the page in one language.
#[derive(Debug)]
pub(super) struct FreezeWords {
    pub(super) ask: &'static str,
    pub(super) ask_what: &'static str,
    pub(super) ask_effect: &'static str,
    pub(super) button: &'static str,
    pub(super) done: &'static str,
    pub(super) done_what: &'static str,
    pub(super) gone: &'static str,
    pub(super) gone_what: &'static str,
    pub(super) trouble: &'static str,
    pub(super) trouble_what: &'static str,
    pub(super) languages: &'static str,
}

/// The texts in a language.
pub(super) fn words(language: Language) -> &'static FreezeWords {
    match language {
        Language::En => &EN,
        Language::De => &DE,
        Language::Sk => &SK,
        Language::Cs => &CS,
    }
}

const EN: FreezeWords = FreezeWords {
    ask: "Was this not you?",
    ask_what: "The message that brought you here says what was changed in how you sign in: your phone number, or an application or codes. If you did that, close this page: there is nothing to do.",
    ask_effect: "If it was not you, press the button. Then a new number is not used, whatever was set up since is void, and nobody, you included, can sign in with your second factor until an administrator has looked at it.",
    button: "This was not me",
    done: "The account is frozen",
    done_what: "Nobody can sign in with its second factor until an administrator has looked at it. Please call your administrators or helpdesk now, on a number that you know.",
    gone: "This link is not valid",
    gone_what: "It is no longer valid, or was not copied whole. If a change was not yours, call your administrators or helpdesk.",
    trouble: "This does not work at the moment",
    trouble_what: "Nothing was changed. Please try again in a few minutes, or call your administrators or helpdesk.",
    languages: "Languages",
};

const DE: FreezeWords = FreezeWords {
    ask: "Waren Sie das nicht?",
    ask_what: "In der Nachricht, die Sie hierher geführt hat, steht, was an Ihrer Anmeldung geändert wurde: Ihre Telefonnummer, oder eine Anwendung oder Codes. Wenn Sie das waren, schließen Sie diese Seite: Es ist nichts zu tun.",
    ask_effect: "Wenn Sie es nicht waren, drücken Sie die Schaltfläche. Eine neue Nummer wird dann nicht verwendet, was seither eingerichtet wurde, ist ungültig, und niemand kann sich mit dem zweiten Faktor Ihres Kontos anmelden, bis Ihre Administratoren es geprüft haben.",
    button: "Das war ich nicht",
    done: "Das Konto ist gesperrt",
    done_what: "Niemand kann sich mit seinem zweiten Faktor anmelden, bis Ihre Administratoren es geprüft haben. Bitte rufen Sie Ihre Administratoren oder den Helpdesk jetzt an, unter einer Nummer, die Sie kennen.",
    gone: "Dieser Link ist nicht gültig",
    gone_what: "Er gilt nicht mehr, oder er wurde nicht vollständig kopiert. Wenn eine Änderung nicht von Ihnen war, rufen Sie Ihre Administratoren oder den Helpdesk an.",
    trouble: "Das geht im Moment nicht",
    trouble_what: "Es wurde nichts geändert. Bitte versuchen Sie es in einigen Minuten wieder, oder rufen Sie Ihre Administratoren oder den Helpdesk an.",
    languages: "Sprachen",
};

const SK: FreezeWords = FreezeWords {
    ask: "Neboli ste to vy?",
    ask_what: "V správe, ktorá vás sem priviedla, je napísané, čo sa na vašom prihlasovaní zmenilo: telefónne číslo, alebo aplikácia či kódy. Ak ste to boli vy, zatvorte túto stránku: nie je potrebné nič robiť.",
    ask_effect: "Ak ste to neboli vy, stlačte tlačidlo. Prípadné nové číslo sa potom nepoužije, čo bolo odvtedy nastavené, prestane platiť, a druhým faktorom vášho účtu sa nikto neprihlási, kým to neprezrú správcovia.",
    button: "Nebol(a) som to ja",
    done: "Účet je zmrazený",
    done_what: "Jeho druhým faktorom sa nikto neprihlási, kým ho neprezrú správcovia. Zavolajte teraz svojim správcom alebo na podporu, na číslo, ktoré poznáte.",
    gone: "Tento odkaz neplatí",
    gone_what: "Už neplatí, alebo nebol skopírovaný celý. Ak zmena nebola vaša, zavolajte svojim správcom alebo na podporu.",
    trouble: "Momentálne to nejde",
    trouble_what: "Nič sa nezmenilo. Skúste to o pár minút znova, alebo zavolajte svojim správcom alebo na podporu.",
    languages: "Jazyky",
};

const CS: FreezeWords = FreezeWords {
    ask: "Nebyli jste to vy?",
    ask_what: "Ve zprávě, která vás sem přivedla, je napsáno, co se na vašem přihlašování změnilo: telefonní číslo, nebo aplikace či kódy. Pokud jste to byli vy, zavřete tuto stránku: není potřeba nic dělat.",
    ask_effect: "Pokud jste to nebyli vy, stiskněte tlačítko. Případné nové číslo se pak nepoužije, co bylo od té doby nastaveno, přestane platit, a druhým faktorem vašeho účtu se nikdo nepřihlásí, dokud to neprověří správci.",
    button: "Nebyl(a) jsem to já",
    done: "Účet je zmrazený",
    done_what: "Jeho druhým faktorem se nikdo nepřihlásí, dokud ho neprověří správci. Zavolejte teď svým správcům nebo na podporu, na číslo, které znáte.",
    gone: "Tento odkaz neplatí",
    gone_what: "Už neplatí, nebo nebyl zkopírován celý. Pokud změna nebyla vaše, zavolejte svým správcům nebo na podporu.",
    trouble: "Momentálně to nejde",
    trouble_what: "Nic se nezměnilo. Zkuste to za pár minut znovu, nebo zavolejte svým správcům nebo na podporu.",
    languages: "Jazyky",
};
