"""Frequent function words and telling letters, by language: the profiles that :mod:`ragstack.languages` compares.

A profile holds the small words that every text of a language is full of, whatever it is about, and the letters that few
other languages write. They need no completeness: a word that several languages share counts less for each of them.
"""

from __future__ import annotations

WORDS: dict[str, str] = {
    "af": """
        die van en in het is 'n nie om dat te vir op met hy sy wat as aan ek hulle ons was deur ook by sal kan
        word haar maar moet hierdie hê hoe uit jy daar geen jou
    """,
    "az": """
        və bu bir üçün ilə də da ki olan hər olaraq deyil çox daha isə onun amma kimi görə sonra qədər var yox
        nə lakin edir ola olar ya əgər bütün
    """,
    "ca": """
        de la el que i en a els per les del un una és amb no es al ser com més va són seva seu han pel aquest
        aquesta també però o si dels entre fins molt quan sobre ha ho us
    """,
    "cs": """
        a v se na je že s z do to i o k ve pro za by jako od po ale si který která které jsou byl byla bylo jeho
        také až není nebo při tak mezi podle být jen však může musí tento této jste vaše
    """,
    "cy": """
        y yn a i o ar mae yr ei eu wedi gan fod oedd ac nid am un ond roedd hyn hon hwn chi fel sydd bod gyda
        neu mewn nad cael wneud eich rhaid hefyd
    """,
    "da": """
        og i at det er en til på af for de den med der som et har ikke var han fra om ved sig kan men jeg du
        skal blev efter hun eller vi over hvor også meget hvad mig dem nogle når være kun denne dette mellem dig
        bliver ind ud end anden andet ingen mere dine din dit deres sådan uden gyldig lige hvis bør
    """,
    "de": """
        der die das und in zu den von mit ist des sich auf für nicht im dem ein eine als auch es an werden aus
        er hat dass sie nach wird bei einer um am sind noch wie einem über einen zum war haben nur oder aber vor
        zur bis durch wurde kann wenn ich wir ihr diese dieser dieses können sein unter keine bitte muss
    """,
    "en": """
        the of and to in a is that for it as was with be on by not this are or from at his an which he have had
        but were their has they you its been can will would there more if when who no all one may these your
        than into we what please how does do
    """,
    "eo": """
        la de kaj en al estas por ne pri kun kiu ke el tiu kiel sed ankaŭ vi ili li ŝi mi ni oni estis pli ĉi ĝi
        sur per aŭ tiuj ĉu nur da tio
    """,
    "es": """
        de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ya este sí
        porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos fue son ser ha
        era está qué cuál cómo debe puede
    """,
    "et": """
        ja on ei et see ta oli kui ka mis või aga oma ning siis seda kes nii olid ole mida selle tema pole veel
        kuid ainult välja nad ma kas peab enne pärast üks
    """,
    "eu": """
        eta da ez bat dira hau ere du zen baina izan egin behar edo zuen dute beste den dela bere horren duen
        egiten zuten bai gabe baino honen zer nola
    """,
    "fi": """
        ja on ei että se oli hän mutta joka ovat kuin myös sen ole niin tai jos mukaan kun hänen sekä vain ollut
        olla jotka mitä nyt tämä tämän siitä voi sitä jo olivat joita eivät kaikki mikä täytyy
    """,
    "fr": """
        de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son
        ou aux mais comme ses été nous vous cette leur elle fait être sa ont deux même ces si je on peut sans
        entre était quel quelle veuillez doit
    """,
    "ga": """
        an na agus a i ar ag is go le do bhí sé tá ní de ach sin gur leis don atá mar sí nach ó faoi níor bhfuil
        chun siad seo nó
    """,
    "gl": """
        de a o que e en do da os un unha as por para con non dos é no na se máis como ao das foi polo pola seu
        súa pero ou entre ata tamén cando son ten está sen moi
    """,
    "hr": """
        i u je se na da za od su s kao ne koji što iz o a sa do bi biti koja koje nije ili samo ali više bio
        bila nakon po kako te sve može već godine između ovaj ova mora ako jer
    """,
    "hu": """
        a az és hogy nem is egy volt meg ez de csak ha már még mint azt kell vagy ki van el lehet aki ami ezt
        volna pedig ezek után között szerint minden nagyon nincs lesz
    """,
    "id": """
        yang dan di dengan untuk dari ini pada tidak dalam itu adalah sebagai oleh akan ke juga atau dapat bisa
        ada telah karena lebih mereka saya anda kami tersebut seperti harus sebuah menjadi bahwa
    """,
    "is": """
        og að í á er sem til við var um með ekki af fyrir hann það en því frá þar hún eru hefur þá eða sér eftir
        þeir verið þess vera þú ég
    """,
    "it": """
        di e che la il un a per in una è del non si con le della i da dei come sono ha al nel più gli ma alla
        anche su lo suo questo o se dal delle ed era sua essere degli nella dopo questa quando tra hanno stato
        quale cosa deve
    """,
    "lt": """
        ir į kad yra su iš buvo tai bet ar kaip jis tik nuo po apie už jo dėl ne o prie kuris arba taip jie dar
        kurie iki jei savo turi nėra
    """,
    "lv": """
        un ir ar no kas uz par tika ka bet kā arī viņš nav pēc to vai bija tas ne līdz pie lai gan kur vairāk
        šis jau tiek šo būt jābūt
    """,
    "nl": """
        de van het een en in is dat op te zijn met voor niet die aan er om ook als bij of maar was wordt uit dan
        naar door over ze hij werd nog worden deze kan heeft hun geen zich wel tot waar wat moet u wie
    """,
    "no": """
        og i det er på en til som for av at med de den ikke har var et om fra han men jeg vi seg ble ved kan
        etter skal sin eller du så hun mot også hva meg dem noen være bare denne dette mellom vil må hvor blir
        inn ut enn annen annet ingen mer dine din ditt deres slik uten ikkje ein eit frå dei eg vere berre
        gyldig like hvis bør
    """,
    "pl": """
        i w na z do się że nie to jest o jak po od za przez dla co był ale przy tym czy oraz są być może tylko
        jego ich ma ze lub jako już które który która także było były gdy przed jeszcze między został musi
        bardzo
    """,
    "pt": """
        de a o que e do da em um para com não uma os no se na por mais as dos como mas ao das à seu sua ou
        quando muito nos já também só pelo pela até isso ela entre depois sem mesmo aos seus quem são foi ser
        tem está você nas esse essa deve qual é
    """,
    "ro": """
        de și în a la cu nu pe din care că o un pentru este mai au sau să ca fi fost prin după dar sunt al ale
        acest această lor era fără între când cel foarte poate dacă doar trebuie unei unui
    """,
    "sk": """
        a v sa na je že s z do to aj o k vo pre za by ako od po ale si ktorý ktorá ktoré sú bol bola bolo jeho
        tiež až nie alebo pri tak medzi podľa byť len však môže musí tento táto ste vaše už keď
    """,
    "sl": """
        in je v na se da za so z s ki tudi pa ne po kot od do bil bila bilo pri ali še ter ni iz o vendar lahko
        samo kaj med zelo če sta ima bodo mora več
    """,
    "sq": """
        dhe të në e i që me një për nga si është u nuk ka më janë ishte por do se ai kjo ky duke ose nëse vetëm
        pas kur jo
    """,
    "sv": """
        och i att det som en på är av för med till den har de inte om ett han men var jag sig från vi så kan när
        eller efter hon också vid skulle under vara blev mot detta mycket denna utan alla mellan någon bara vad
        måste
    """,
    "sw": """
        ya na wa kwa ni katika la za kama cha hii hiyo yake wake lakini pia au huo kuwa hilo ambao ambayo wao
        hivyo kila baada kutoka hakuna sana
    """,
    "tl": """
        ang ng sa na mga at ay ito si para kung may hindi niya ni kanyang nang isang ko mo siya sila lamang o pa
        din rin dahil ngunit upang
    """,
    "tr": """
        ve bir bu için ile da de olarak çok daha olan en gibi ne kadar sonra var ama olduğu değil her o ise
        ancak veya ya göre tarafından mi mı bunu şey diye nasıl gerekir
    """,
    "vi": """
        và của là có trong được cho không một các này với những người đã để khi từ đến về như nhưng vào ra tại
        bị hay hoặc cũng nếu phải chỉ theo
    """,
    # Cyrillic
    "be": """
        і ў на з не што да для як па гэта быў ён але або ад за яго таксама толькі яна пры якія які была было
        гэты калі вы каб ці гэтага мае трэба іх усе няма б пасля можа ваш
    """,
    "bg": """
        на и да се в от за е с не по че са като до си но при след това или със който която които само може има
        към този тази беше също трябва
    """,
    "kk": """
        және бұл бір мен үшін деп болып да де емес бар осы ол өз керек болған арқылы немесе
    """,
    "mk": """
        и на во да се од за со е не по што ги како до но или која кој кои само може има оваа овој беше исто
        треба
    """,
    "mn": """
        байна нь ба бол энэ юм гэж хийх болон тухай байгаа дээр та эсвэл
    """,
    "ru": """
        и в не на что с по к как из у за он от о это его а но для все так же или при то до были было был бы
        после только она они если может этот также где который которые быть есть под между нет через
    """,
    "sr": """
        и у је се на да за од су са као не који што из о а до би бити која које није или само али више био била
        након по како те све може
    """,
    "uk": """
        і в на не що з до у за та як від про це його для по але був або при її він також бути якщо після які
        який було тільки може між є ці через ви
    """,
    # Arabic script
    "ar": """
        في من على أن إلى عن مع هذا هذه التي الذي كان لا ما أو كل بعد قبل ذلك لم هو هي قد كما بين إذا غير
    """,
    "ckb": """
        لە بە بۆ و کە ئەم لەگەڵ یان نییە دەبێت ئەو هەموو
    """,
    "fa": """
        در به از که این است را با برای آن یک بر تا و می ها شده بود هم یا نیست باشد باید خود کرد
    """,
    "ps": """
        د په او کې چې له دی نه دا سره لپاره شي څخه يا
    """,
    "ur": """
        کے میں کی ہے اور کا سے کو نے پر ہیں یہ کہ ایک اس نہیں تھا بھی جو لیے یا
    """,
    # Devanagari
    "hi": """
        के में की है और का से को ने पर हैं यह कि एक इस नहीं था भी जो लिए या कर हो गया तो ही
    """,
    "mr": """
        आहे आणि या हे व तो ते की नाही एक होते करण्यात त्या मध्ये साठी होता झाला आहेत किंवा
    """,
    "ne": """
        छ र को मा यो पनि लागि गर्न छन् भएको हो छैन गरेको तथा थियो वा लाई
    """,
}
"""Function words, lower case, by ISO 639-1 code (``ckb`` is ISO 639-3); languages of one script are told apart."""

LETTERS: dict[str, str] = {
    "az": "əğıöüşç",
    "ca": "·àçèòï",
    "cs": "ěřůžščťďň",
    "cy": "ŵŷ",
    "da": "æøå",
    "de": "ßäöü",
    "eo": "ĉĝĥĵŝŭ",
    "es": "ñ¿¡",
    "et": "õäöü",
    "fi": "äö",
    "fr": "çœèêàù",
    "gl": "ñ",
    "hr": "đćčšž",
    "hu": "őűöü",
    "is": "ðþæö",
    "it": "ìòèàù",
    "lt": "ėįųūąęšž",
    "lv": "āēīūķļņģšž",
    "no": "æøå",
    "pl": "łąęśżźćń",
    "pt": "ãõçê",
    "ro": "ășțţşâî",
    "sk": "ľĺŕôäžščťďň",
    "sl": "čšž",
    "sq": "ëç",
    "sv": "åäö",
    "tr": "ğışçöü",
    "vi": "đơưạảấầẩậắằẵặẹẻẽếềểệỉịọỏốồổộớờởợụủứừửựỳỵỷỹ",
    "be": "ўі",
    "bg": "ъ",
    "kk": "әғқңөұүһі",
    "mk": "ѓќѕџљњј",
    "mn": "өү",
    "ru": "ыэё",
    "sr": "ђћџљњј",
    "uk": "іїєґ",
    "ar": "ةىأإ",
    "ckb": "ەۆێڕڵ",
    "fa": "پچژگی",
    "ps": "ښځټډړڼې",
    "ur": "ٹڈڑںےہھ",
}
"""Letters, lower case, that few of the languages of a script write."""
